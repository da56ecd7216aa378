"""Features of any network, read by hooks while its own `forward` runs.

A tap is one of

- `pooled`: what the classifier layer is given, [B, D]; the mean over the layers where there are several (distilled
  transformers have two);
- `features`: the last feature map before pooling, which is what timm's `forward_features` answers;
- the path of a module: what it answers, such as `features.denseblock4.denselayer16.conv2`.

Maps come as [B, D, H, W] whatever the network keeps inside. Tokens [B, N, D] lose their prefix (class tokens,
registers) and are laid out as the grid of patches that they came from; where they form no grid, they are averaged to
[B, D]. Maps with channels last are turned around where timm says so (`output_fmt`), but for layers of convolutions.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.stages import stages_of

POOLED, FEATURES, STAGES = "pooled", "features", "stages"
"""Names of taps that are no path."""


def resolve(module: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Names of taps with `stages` expanded to the paths of the network's stages, from the input on.

    What stands for stages is said in `models.networks.stages`.

    Raises:
        ValueError: no such module (the nearest paths are named), or the network lacks what a name needs.
    """
    found: list[str] = []
    for name in names:
        if name == STAGES:
            found.extend(stages_of(module))
            continue
        _watched(module, name)
        found.append(name)
    return tuple(found)


def shapes(module: nn.Module, names: Sequence[str] | Mapping[str, str], size: int) -> dict[str, tuple[int, ...]]:
    """Shape of each tap without the batch, (D,) or (D, H, W), for square images of `size` pixels.

    A copy of the network, which shares the weights, sees two black images in eval mode; the network's own state, its
    buffers and the random state stay as they are.

    Raises:
        ValueError: an unknown name, a module that does not run in a pass, or whose answer is no row an image.
    """
    weights = list(module.parameters())
    probe = copy.deepcopy(module, {id(weight): weight for weight in weights}).eval()
    like = weights[0] if weights else torch.zeros(())
    devices = [like.device] if like.device.type == "cuda" else []
    with Taps(probe, names) as taps, torch.random.fork_rng(devices), torch.no_grad():
        # Two images: with one, windows or heads folded into the batch could not be told from it.
        probe(torch.zeros(2, 3, size, size, dtype=like.dtype, device=like.device))
        found = taps.take()
    for name, tensor in found.items():
        if len(tensor) != 2:
            raise ValueError(f"{name}: {list(tensor.shape)} of two images is not a row an image; name another module")
    return {name: tuple(tensor.shape[1:]) for name, tensor in found.items()}


class Taps:
    """Listens to a network from now on until `close`; a context manager.

    The network's answers and gradients are what they were. Under data parallelism give the inner module; a network that
    is compiled must be tapped before its first pass.

    Args:
        module: the network.
        names: taps, `stages` resolved; or taps by the names that their features are to have, so that places of
            several networks can share a name.

    Raises:
        ValueError: see `resolve`.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | Mapping[str, str]) -> None:
        self._taps = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
        self._seen: dict[tuple[str, int], Tensor] = {}
        self._layers = {tap: _watched(module, tap) for tap in self._taps.values()}
        self._undo: list[Callable[[], object]] = []
        for name, layers in self._layers.items():
            if name == FEATURES:
                self._undo.append(_listen(module, self._seen))
                continue
            for place, layer in enumerate(layers):
                if name == POOLED:
                    hook = layer.register_forward_pre_hook(_input_keeper(self._seen, place))
                else:
                    hook = layer.register_forward_hook(_output_keeper(self._seen, name, module))
                self._undo.append(hook.remove)

    def take(self) -> dict[str, Tensor]:
        """Each name's features of the last pass, [B, D] or [B, D, H, W], still in its graph; they are then forgotten.

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
        """Stop listening."""
        while self._undo:
            self._undo.pop()()
        self._seen.clear()

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Hooks are functions, not methods of Taps: a copy of the network takes its hooks along, and would copy features in
# a graph with them, which torch refuses.


def _input_keeper(seen: dict[tuple[str, int], Tensor], place: int) -> Callable[[nn.Module, Any], None]:
    def keep(layer: nn.Module, given: tuple[Any, ...]) -> None:
        seen[POOLED, place] = given[0].flatten(1)

    return keep


def _output_keeper(
    seen: dict[tuple[str, int], Tensor], name: str, module: nn.Module
) -> Callable[[nn.Module, Any, Any], None]:
    def keep(layer: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        if not isinstance(answer, Tensor):
            raise ValueError(f"{name}: the module answers a {type(answer).__name__}, not one tensor; name another")
        # A copy: the next layer may write over its input, as an activation in place does. Of a module that runs twice
        # in a pass the last answer stays.
        seen[name, 0] = _as_features(answer.clone(), module, layer)

    return keep


def _listen(module: nn.Module, seen: dict[tuple[str, int], Tensor]) -> Callable[[], object]:
    """Keep what `forward_features` answers, which need not be what any module answers."""
    before: Any = module.__dict__.get("forward_features")

    def forward_features(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        ask: Callable[..., Tensor] = before.__func__ if before else type(self).forward_features  # type: ignore[attr-defined]
        answer = ask(self, *args, **kwargs)
        if not isinstance(answer, Tensor):
            raise ValueError(f"{FEATURES}: the network answers a {type(answer).__name__}, no tensor; name a module")
        seen[FEATURES, 0] = _as_features(answer, self, self)
        return answer

    # Bound, so that a copy of the network runs its own layers.
    module.forward_features = MethodType(forward_features, module)  # type: ignore[assignment]

    def undo() -> None:
        if before is None:
            del module.forward_features
        else:
            module.forward_features = before

    return undo


def _watched(module: nn.Module, name: str) -> list[nn.Module]:
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
    ask = getattr(module, "get_classifier", None)
    answer = ask() if callable(ask) else None
    given = answer if isinstance(answer, tuple) else (answer,)
    layers = [layer for layer in given if isinstance(layer, nn.Module)]
    if len(layers) == len(given):
        return layers
    raise ValueError(
        f"{type(module).__name__} does not say which layer is its classifier (`get_classifier`); "
        f"name a module instead of {POOLED!r}"
    )


def _as_features(answer: Tensor, module: nn.Module, layer: nn.Module) -> Tensor:
    """[B, D], [B, N, D], [B, D, H, W] or [B, H, W, D] -> [B, D] or [B, D, H, W]."""
    if answer.ndim == 3:
        return _from_tokens(answer, module)
    convolution = isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    if answer.ndim == 4 and getattr(module, "output_fmt", None) == "NHWC" and not convolution:
        return answer.permute(0, 3, 1, 2)
    return answer


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
