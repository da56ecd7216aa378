"""One trainer for teachers and students: steps, schedule, averaged weights, exact resume.

The trainer knows networks and tensors; where samples come from and where checkpoints go is its caller's.
Everything that decides the next step is in the checkpoint or a function of the step, so a killed run that
resumes on a CPU ends with the same bits as one that was left alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from models.losses import Objective, Targets


class DivergedError(ValueError):
    """The loss is not finite; the text names the batch's keys."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train; one field a key of the spec's `train:`."""

    steps: int
    lr: float
    optimizer: str = "adamw"
    weight_decay: float = 0.02
    warmup: float = 0.05
    ema: float | None = 0.99
    clip: float | None = 1.0
    precision: str = "float32"
    checkpoint_every: int = 200
    log_every: int = 50


@dataclass(frozen=True)
class Batch:
    """One step's data."""

    x_B3HW: Tensor  # float32, normalised
    targets: Targets
    keys: list[str]


@dataclass
class Progress:
    """Running means between two log lines."""

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Count one step."""
        self.steps += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: value / max(1, self.steps) for name, value in self.sums.items()}
        self.steps, self.sums = 0, {}
        return means


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine to zero (1608.03983 without restarts)."""
    warm = round(config.warmup * config.steps)
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))


class Trainer:
    """Trains `model` on `objective`.

    Args:
        model: the network; moved to `device`, channels_last.
        objective: weighted loss terms.
        config: how.
        device: cpu or cuda.
    """

    def __init__(self, model: nn.Module, objective: Objective, config: TrainConfig, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective
        self.config = config
        self.step = 0
        self.progress = Progress()
        self.optimizer = _optimizer(self.model, config)
        self.average = (
            {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            if config.ema is not None
            else None
        )

    def fit(
        self,
        batches: Iterator[Batch],
        *,
        on_log: Callable[[int, dict[str, float]], None] | None = None,
        on_checkpoint: Callable[[int, bytes], None] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> None:
        """Run from the current step to the last.

        Args:
            batches: yields the batch of each remaining step, in order.
            on_log: gets (step, means since the last call) every `log_every` steps and at the end.
            on_checkpoint: gets (step, bytes) every `checkpoint_every` steps.
            stop: called before each step; raises to stop.

        Raises:
            DivergedError: the loss is not finite.
        """
        config, progress = self.config, self.progress
        self.model.train()
        for batch in batches:
            if stop is not None:
                stop()
            progress.add(self._one(batch))
            if on_log is not None and (self.step % config.log_every == 0 or self.step == config.steps):
                on_log(self.step, progress.take())
            due = self.step % config.checkpoint_every == 0 and self.step < config.steps
            if on_checkpoint is not None and due:
                on_checkpoint(self.step, self.state())
        if self.step != config.steps:
            raise RuntimeError(f"the data ended at step {self.step} of {config.steps}")

    def _one(self, batch: Batch) -> dict[str, float]:
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x = batch.x_B3HW.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        low = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=low):
            logits = self.model(x)
        loss, parts = self.objective(logits, _to(batch.targets, self.device))
        if not torch.isfinite(loss):
            named = ", ".join(batch.keys[:8]) + (", ..." if len(batch.keys) > 8 else "")
            raise DivergedError(f"loss is {loss.item()} at step {self.step}; the batch holds {named}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}, "lr": rate}

    @torch.no_grad()
    def _average(self) -> None:
        if self.average is None or self.config.ema is None:
            return
        # A short run would otherwise remember its random start: the decay grows with the steps done.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [state[n] for n in floats], 1 - decay)
        for name in state.keys() - set(floats):
            self.average[name].copy_(state[name])

    def weights(self) -> dict[str, Tensor]:
        """The weights to keep: averaged where the config says so; on the CPU, contiguous."""
        chosen = self.average if self.average is not None else self.model.state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in chosen.items()}

    def state(self) -> bytes:
        """A checkpoint: everything that decides the next step."""
        buffer = io.BytesIO()
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "progress": {"steps": self.progress.steps, "sums": self.progress.sums},
                "random": torch.get_rng_state(),
                "cuda_random": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            },
            buffer,
        )
        return buffer.getvalue()

    def resume(self, data: bytes) -> None:
        """Go back to a checkpoint that `state` made with the same model and config."""
        saved: dict[str, Any] = torch.load(io.BytesIO(data), map_location=self.device, weights_only=True)
        self.step = int(saved["step"])
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average = saved["average"]
        self.progress.steps, self.progress.sums = saved["progress"]["steps"], saved["progress"]["sums"]
        torch.set_rng_state(saved["random"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all([value.cpu() for value in saved["cuda_random"]])


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels only, not on biases and norms."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr, foreach=True)


def _to(targets: Targets, device: torch.device) -> Targets:
    values: dict[str, Tensor | None] = {each.name: getattr(targets, each.name) for each in fields(targets)}
    moved: dict[str, Any] = {n: v if v is None else v.to(device, non_blocking=True) for n, v in values.items()}
    return Targets(**moved)
