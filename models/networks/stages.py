"""Which modules of a network are its stages: what losses on several depths compare.

Stages are timm's `feature_info`, the last entry of each resolution. Where the resolution never changes (transformers),
they are four of the blocks, evenly spaced, the last among them, as ResNets have four. So they are in a network without
`feature_info`, whose blocks are then the children of the container with most parameters. [our reading: papers name
the stages of the networks that they train, no rule]
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

_FEW = 4


def stages_of(module: nn.Module) -> list[str]:
    """Paths of the modules that end the stages, from the input on.

    Raises:
        ValueError: the network has neither `feature_info` nor a container of blocks.
    """
    paths = {path for path, _ in module.named_modules() if path}
    known = getattr(module, "feature_info", None) or []
    stages = [(str(one["module"]), int(one["reduction"])) for one in known if one["module"] in paths]
    last = {reduction: path for path, reduction in stages}
    if len(last) > 1:
        return list(last.values())
    blocks = [path for path, _ in stages] or list(_blocks(module))
    if not blocks:
        raise ValueError(f"{type(module).__name__} does not say what its stages are; name modules, not 'stages'")
    few = min(_FEW, len(blocks))
    return [blocks[(i + 1) * len(blocks) // few - 1] for i in range(few)]


def _blocks(module: nn.Module) -> Iterator[str]:
    """Children of the container with most parameters, the outermost of equals."""
    containers = [(path, one) for path, one in module.named_modules() if isinstance(one, nn.Sequential | nn.ModuleList)]
    if containers:
        path, largest = max(containers, key=lambda one: sum(weight.numel() for weight in one[1].parameters()))
        # A list within the list is never called itself.
        inner = (name for name, one in largest.named_children() if not isinstance(one, nn.ModuleList))
        yield from (f"{path}.{name}".lstrip(".") for name in inner)
