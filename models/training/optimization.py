"""What an optimizer step depends on: which parameters learn, the learning rate, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.networks.build import head_layers
from models.training.config import TrainConfig

RELATIVE_RATE = "relative_rate"
"""Key of an optimizer's groups: their learning rate relative to the student's."""


def make_optimizer(student: nn.Module, objective: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of all parameters that learn; weight decay on matrices and kernels only.

    The objective's own parameters are groups of their own, with the rate `projector_lr` at the peak of the schedule;
    so are the student's but for its head, with `backbone_lr`.

    Raises:
        ValueError: nothing of the student learns, or an unknown optimizer.
    """
    head, backbone = _head_and_backbone(student) if config.backbone_lr is not None else (learning(student), [])
    parts = [
        (head, 1.0),
        (backbone, (config.backbone_lr or config.lr) / config.lr),
        (learning(objective), (config.projector_lr or config.lr) / config.lr),
    ]
    if not head and not backbone:
        raise ValueError(f"freeze: {', '.join(config.freeze)} leaves no parameter to train")
    groups = [
        {"params": chosen, "weight_decay": decay, RELATIVE_RATE: relative}
        for own, relative in parts
        if own
        for chosen, decay in (
            ([p for p in own if p.ndim > 1], config.weight_decay),
            ([p for p in own if p.ndim <= 1], 0.0),
        )
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
    raise ValueError(f"there is no optimizer {config.optimizer!r}; there are adamw, adam and sgd")


def _head_and_backbone(student: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What learns of the layers that begin at random, and of the others."""
    prefixes = tuple(f"{name}." for name in head_layers(student))
    named = [(name, p) for name, p in student.named_parameters() if p.requires_grad]
    return [p for name, p in named if name.startswith(prefixes)], [
        p for name, p in named if not name.startswith(prefixes)
    ]


def learning(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [p for p in module.parameters() if p.requires_grad]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rates of all groups.

    Args:
        rate: the student's.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RELATIVE_RATE]


def clip_gradients(part: list[nn.Parameter], config: TrainConfig) -> Tensor:
    """Clip gradients by value and then by their norm; returns the norm before, a scalar."""
    if config.clip_value is None and config.clip is not None:
        return nn.utils.clip_grad_norm_(part, config.clip)
    norm = nn.utils.get_total_norm([p.grad for p in part if p.grad is not None])
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(part, config.clip_value)
        if config.clip is not None:
            nn.utils.clip_grad_norm_(part, config.clip)
    return norm


def freeze(network: nn.Module, prefixes: Sequence[str]) -> list[nn.Module]:
    """Exclude the parameters below these module paths from training.

    Returns:
        Their normalisation layers, which must stay in eval mode so that their statistics do not change either.

    Raises:
        ValueError: a prefix that names no parameter; the parts of the network are listed.
    """
    norms: dict[str, nn.Module] = {}
    for prefix in prefixes:
        below = [p for name, p in network.named_parameters() if _under(name, prefix)]
        if not below:
            parts = ", ".join(name for name, _ in network.named_children())
            raise ValueError(f"freeze: there is nothing to freeze at {prefix!r}; the network's parts are {parts}")
        for parameter in below:
            parameter.requires_grad_(False)
        norms |= {
            name: module
            for name, module in network.named_modules()
            if _under(name, prefix) and isinstance(module, nn.modules.batchnorm._NormBase)
        }
    return list(norms.values())


def learning_rate(step: int, config: TrainConfig, reductions: int = 0) -> float:
    """Linear warm-up, then the schedule.

    cosine: half a cosine to zero (1608.03983 without restarts). step: times `factor` at each of `step_at`.
    plateau: times `factor` for each reduction. constant: unchanged.

    Args:
        step: steps done.
        reductions: by schedule plateau so far.

    Raises:
        ValueError: an unknown schedule.
    """
    warm = round(config.warmup * config.steps)
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))
    if config.schedule == "step":
        return config.lr * config.factor ** sum(step >= round(share * config.steps) for share in config.step_at)
    if config.schedule == "plateau":
        return config.lr * config.factor**reductions
    if config.schedule == "constant":
        return config.lr
    raise ValueError(f"there is no schedule {config.schedule!r}; there are cosine, step, plateau and constant")


def validation_steps(config: TrainConfig) -> set[int]:
    """Steps after which the student is validated: evenly spread, the last one included."""
    return {round(i * config.steps / config.validations) for i in range(1, config.validations + 1)} - {0}


def average_decay(config: TrainConfig) -> float | None:
    """Share of the averaged weights that remains after a step late in the training; None: nothing is averaged.

    The average looks back over 1 / (1 - decay) steps: `ema_share` of all, at least one.
    """
    return None if config.ema_share is None else 1 - 1 / max(1.0, config.ema_share * config.steps)


class WeightAverage:
    """The exponential moving average of a network's parameters and buffers; frozen ones are copied once.

    Args:
        network: its tensors must stay the same objects, changed in place.
        decay: share of the average that remains after a step, late in the training.
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._values = {name: value.detach().clone() for name, value in network.state_dict().items()}
        # State dicts are slow to build, and their tensors stay the same objects.
        live = dict(network.state_dict(keep_vars=True))
        moving = [name for name, value in live.items() if not isinstance(value, nn.Parameter) or value.requires_grad]
        floats = [name for name in moving if live[name].is_floating_point()]
        counts = [name for name in moving if not live[name].is_floating_point()]
        self._own, self._live = [self._values[n] for n in floats], [live[n].detach() for n in floats]
        self._own_counts, self._live_counts = [self._values[n] for n in counts], [live[n] for n in counts]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step` (from 1)."""
        # Otherwise a short run would keep its random initialisation: the decay grows with the steps done.
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, self._live, 1 - decay)
        if self._own_counts:
            torch._foreach_copy_(self._own_counts, self._live_counts)

    def weights(self) -> dict[str, Tensor]:
        """The averaged state dict itself, not a copy."""
        return self._values

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore what `weights` returned."""
        for name, value in self._values.items():
            value.copy_(values[name])


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
