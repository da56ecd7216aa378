"""Features of any network, read by hooks while its own `forward` runs.

A tap is one of

- `pooled`: the input of the classifier layer, [B, D]; the mean over the layers where there are several (distilled
  transformers have two);
- `features`: the last feature map before pooling, which timm's `forward_features` returns;
- the path of a module: its output, such as `features.denseblock4.denselayer16.conv2`.

Maps are [B, D, H, W] whatever the network's internal layout. Tokens [B, N, D] lose their prefix (class tokens,
registers) and are arranged as the grid of patches; where they form no grid, they are averaged to [B, D]. Maps with
channels last are permuted where timm declares them (`output_fmt`), except outputs of convolutions.

`stages` stands for several modules, see `stages_of`.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

POOLED, FEATURES, STAGES = "pooled", "features", "stages"
"""Names of taps that are not paths."""

_MOST_STAGES = 4


def resolve(module: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Names of taps with `stages` expanded to the paths of the network's stages, from the input on.

    See `stages_of` for the rule.

    Raises:
        ValueError: no such module (the text gives similar paths), or the network lacks what a name needs.
    """
    found: list[str] = []
    for name in names:
        if name == STAGES:
            found.extend(stages_of(module))
            continue
        _layers(module, name)
        found.append(name)
    return tuple(found)


def stages_of(module: nn.Module) -> list[str]:
    """Paths of the last modules of the stages, from the input on: what losses on several depths compare.

    Stages are timm's `feature_info`, the last entry of each resolution. Where the resolution never changes
    (transformers), they are four of the blocks, evenly spaced, the last among them, as ResNets have four. So they are
    in a network without `feature_info`, whose blocks are then the children of the container with most parameters. [our
    reading: papers name the stages of the networks that they train, no rule]

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
    few = min(_MOST_STAGES, len(blocks))
    return [blocks[(i + 1) * len(blocks) // few - 1] for i in range(few)]


def shapes(module: nn.Module, names: Sequence[str] | Mapping[str, str], size: int) -> dict[str, tuple[int, ...]]:
    """Shape of each tap without the batch, (D,) or (D, H, W), for square images of `size` pixels.

    A copy of the network, which shares the weights, runs on two black images in eval mode; the network's own state, its
    buffers and the random state do not change.

    Raises:
        ValueError: an unknown name, a module that does not run in a pass, or whose output is not one row an image.
    """
    weights = list(module.parameters())
    probe = copy.deepcopy(module, {id(weight): weight for weight in weights}).eval()
    like = weights[0] if weights else torch.zeros(())
    devices = [like.device] if like.device.type == "cuda" else []
    with Taps(probe, names) as taps, torch.random.fork_rng(devices), torch.no_grad():
        # Two images: with one, windows or heads folded into the batch could not be detected.
        probe(torch.zeros(2, 3, size, size, dtype=like.dtype, device=like.device))
        found = taps.take()
    for name, tensor in found.items():
        if len(tensor) != 2:
            raise ValueError(f"{name}: {list(tensor.shape)} of two images is not a row an image; name another module")
    return {name: tuple(tensor.shape[1:]) for name, tensor in found.items()}


class Taps:
    """Reads features of a network by hooks until `close`; a context manager.

    The network's outputs and gradients do not change. Under data parallelism give the inner module; a network that
    is compiled must be tapped before its first pass.

    Args:
        module: the network.
        names: taps, `stages` resolved; or a mapping from the names of the features to taps, so that taps of
            several networks can share a name.

    Raises:
        ValueError: see `resolve`.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | Mapping[str, str]) -> None:
        self._taps = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
        self._seen: dict[tuple[str, int], Tensor] = {}
        self._layers = {tap: _layers(module, tap) for tap in self._taps.values()}
        self._undo: list[Callable[[], object]] = []
        for name, layers in self._layers.items():
            if name == FEATURES:
                self._undo.append(_wrap_forward_features(module, self._seen))
                continue
            for place, layer in enumerate(layers):
                if name == POOLED:
                    hook = layer.register_forward_pre_hook(_input_hook(self._seen, place))
                else:
                    hook = layer.register_forward_hook(_output_hook(self._seen, name, module))
                self._undo.append(hook.remove)

    def take(self) -> dict[str, Tensor]:
        """The features of the last pass by name, [B, D] or [B, D, H, W], in its graph; they are then removed here.

        Raises:
            ValueError: a module did not run since the last call.
        """
        seen, found = dict(self._seen), {}
        self._seen.clear()
        for name, layers in self._layers.items():
            missing = [place for place in range(len(layers)) if (name, place) not in seen]
            if missing:
                raise ValueError(f"{name}: this part of the network did not run; name another module")
            tensors = [seen[name, place] for place in range(len(layers))]
            found[name] = tensors[0] if len(tensors) == 1 else torch.stack(tensors).mean(0)
        return {name: found[tap] for name, tap in self._taps.items()}

    def close(self) -> None:
        """Remove the hooks."""
        while self._undo:
            self._undo.pop()()
        self._seen.clear()

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Hooks are functions, not methods of Taps: a copy of the network copies its hooks and would copy features that are in
# a graph with them, which torch does not allow.


def _input_hook(seen: dict[tuple[str, int], Tensor], place: int) -> Callable[[nn.Module, Any], None]:
    def hook(layer: nn.Module, given: tuple[Any, ...]) -> None:
        seen[POOLED, place] = given[0].flatten(1)

    return hook


def _output_hook(
    seen: dict[tuple[str, int], Tensor], name: str, module: nn.Module
) -> Callable[[nn.Module, Any, Any], None]:
    def hook(layer: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(f"{name}: the module returns a {type(output).__name__}, not one tensor; name another")
        # A copy: the next layer may overwrite its input, as in-place activations do. Of a module that runs twice in a
        # pass the last output counts.
        seen[name, 0] = _as_features(output.clone(), module, layer)

    return hook


def _wrap_forward_features(module: nn.Module, seen: dict[tuple[str, int], Tensor]) -> Callable[[], object]:
    """Store the output of `forward_features`, which need not be the output of any module; returns an undo."""
    before: Any = module.__dict__.get("forward_features")

    def forward_features(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        original: Callable[..., Tensor]
        original = before.__func__ if before else type(self).forward_features  # type: ignore[attr-defined]
        output = original(self, *args, **kwargs)
        if not isinstance(output, Tensor):
            raise ValueError(f"{FEATURES}: the network returns a {type(output).__name__}, no tensor; name a module")
        seen[FEATURES, 0] = _as_features(output, self, self)
        return output

    # Bound, so that a copy of the network runs its own layers.
    module.forward_features = MethodType(forward_features, module)  # type: ignore[assignment]

    def undo() -> None:
        if before is None:
            del module.forward_features
        else:
            module.forward_features = before

    return undo


def _layers(module: nn.Module, name: str) -> list[nn.Module]:
    """The layers that a tap reads: classifiers, the network itself for `features`, or the module of that path."""
    if name == POOLED:
        return _classifiers(module)
    if name == FEATURES:
        if not callable(getattr(type(module), "forward_features", None)):
            raise ValueError(f"{type(module).__name__} has no `forward_features`; name a module, not {FEATURES!r}")
        return [module]
    try:
        return [module.get_submodule(name)]
    except AttributeError as error:
        near = difflib.get_close_matches(name, [path for path, _ in module.named_modules() if path], n=3)
        known = ", ".join(path for path, _ in module.named_children())
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"the network has no module {name!r}; it begins with {known}{hint}") from error


def _classifiers(module: nn.Module) -> list[nn.Module]:
    get_classifier = getattr(module, "get_classifier", None)
    found = get_classifier() if callable(get_classifier) else None
    declared = found if isinstance(found, tuple) else (found,)
    layers = [layer for layer in declared if isinstance(layer, nn.Module)]
    if len(layers) == len(declared):
        return layers
    raise ValueError(
        f"{type(module).__name__} does not say which layer is its classifier (`get_classifier`); "
        f"name a module instead of {POOLED!r}"
    )


def _as_features(output: Tensor, module: nn.Module, layer: nn.Module) -> Tensor:
    """[B, D], [B, N, D], [B, D, H, W] or [B, H, W, D] -> [B, D] or [B, D, H, W]."""
    if output.ndim == 3:
        return _from_tokens(output, module)
    convolution = isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    if output.ndim == 4 and getattr(module, "output_fmt", None) == "NHWC" and not convolution:
        return output.permute(0, 3, 1, 2)
    return output


def _from_tokens(tokens_BND: Tensor, module: nn.Module) -> Tensor:
    count = tokens_BND.shape[1]
    prefix = min(int(getattr(module, "num_prefix_tokens", 0)), count - 1)
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    # Some transformers add their class token in the last blocks only.
    for skip in (prefix, 0):
        if isinstance(grid, tuple) and math.prod(grid) == count - skip:
            return tokens_BND[:, skip:].transpose(1, 2).unflatten(2, grid)
    for skip in (prefix, 0):
        side = math.isqrt(count - skip)
        if side * side == count - skip:
            return tokens_BND[:, skip:].transpose(1, 2).unflatten(2, (side, side))
    return tokens_BND[:, prefix:].mean(1)


def _blocks(module: nn.Module) -> Iterator[str]:
    """Children of the container with most parameters; of equal ones the outermost."""
    containers = [(path, one) for path, one in module.named_modules() if isinstance(one, nn.Sequential | nn.ModuleList)]
    if containers:
        path, largest = max(containers, key=lambda one: sum(weight.numel() for weight in one[1].parameters()))
        # A nested list is never called itself.
        inner = (name for name, one in largest.named_children() if not isinstance(one, nn.ModuleList))
        yield from (f"{path}.{name}".lstrip(".") for name in inner)
