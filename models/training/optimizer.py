"""What learns and what does not: optimisers and frozen parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from models.training.config import TrainConfig


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of everything in `module` that learns; weight decay on matrices and kernels only.

    Raises:
        ValueError: nothing learns, or an unknown optimiser.
    """
    learning = [p for p in module.parameters() if p.requires_grad]
    if not learning:
        raise ValueError(f"freeze: {', '.join(config.freeze)} leaves nothing that learns")
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
    raise ValueError(f"there is no optimiser {config.optimizer!r}; there are adamw, adam and sgd")


def freeze(network: nn.Module, prefixes: Sequence[str]) -> list[nn.Module]:
    """Stop the parameters below these module paths from learning.

    Returns:
        Their normalisation layers, which must stay in eval mode so that their statistics do not move either.

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


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
