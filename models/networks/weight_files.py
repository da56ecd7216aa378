"""Files of weights: reading them without executing code, loading them, export as torch.export's `.pt2` archive.

What an archive may hold, so that loading it runs no code, says `models.networks.graph_archive`.
"""

from __future__ import annotations

import io
import math
import pickle
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.graph_archive import load_graph
from models.networks.state_dicts import FoundState, find_state

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pt2")
# torch.export replaces functions of torch for the whole process while it traces.
EXPORTING = threading.Lock()


def read_state(path: Path, own: Collection[str] = ()) -> FoundState:
    """The state dict in a weight file, on the CPU.

    Args:
        path: `.safetensors`; `.pth`, `.pt` and `.ckpt` as torch.save writes them, bare or beside other things
            (`models.networks.state_dicts`); `.pt2` of torch.export.
        own: names of the network's tensors, by which wrappers and prefixes are told.

    Raises:
        ValueError: another suffix, an unreadable file, contents other than tensors by name, or several networks.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights are read from {', '.join(SUFFIXES)} files")
    try:
        raw: Any = _READERS.get(path.suffix, _read_pickle)(path)
    except Exception as error:
        # The readers raise exception classes of their own; any of them means that the file is invalid.
        raise ValueError(f"{path}: cannot read the weights: {error}") from error
    try:
        return find_state(raw, own)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, head: tuple[str, ...], where: str) -> bool:
    """Load a state dict into a module; where its head has other classes, the module keeps its initial head.

    Args:
        head: names of the module's classifier layers, such as `("classifier",)`.
        where: description of the weights for errors.

    Returns:
        Whether the module kept its initial head.

    Raises:
        ValueError: any other missing, unexpected or differently shaped parameter, or one that is not finite; the text
            names the first ones.
    """
    own = module.state_dict()
    ours = {name for name in own if name.startswith(tuple(f"{layer}." for layer in head))}
    fresh = any(name in state and state[name].shape != own[name].shape for name in ours)
    taken = {name: tensor for name, tensor in state.items() if not (fresh and name in ours)}
    missing = [name for name in own if name not in taken and not (fresh and name in ours)]
    unexpected = [name for name in taken if name not in own]
    shaped = [
        f"{name} {list(taken[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in taken and taken[name].shape != own[name].shape
    ]
    wrong = [("missing", missing), ("unexpected", unexpected), ("of another shape", shaped)]
    if missing or unexpected or shaped:
        parts = [f"{len(names)} {kind} ({', '.join(names[:3])})" for kind, names in wrong if names]
        raise ValueError(f"{where} does not fit the model: {'; '.join(parts)}")
    _check_finite(taken, {name for name, _ in module.named_parameters()}, where)
    module.load_state_dict(taken, strict=not fresh)
    return fresh


def _check_finite(state: Mapping[str, Tensor], parameters: set[str], where: str) -> None:
    """Refuse weights whose every answer would be NaN; buffers may hold infinity, as masks do."""

    def bad(name: str, tensor: Tensor) -> bool:
        if not tensor.is_floating_point():
            return False
        # A sum is finite where all values are and none overflows; only what is not needs a closer look.
        if math.isfinite(float(tensor.detach().sum(dtype=torch.float64))):
            return False
        return bool((~tensor.isfinite() if name in parameters else tensor.isnan()).any())

    names = [name for name, tensor in state.items() if bad(name, tensor)]
    if names:
        raise ValueError(
            f"{where}: {len(names)} of {len(state)} tensors hold NaN or infinity ({', '.join(names[:3])}), so that the "
            "network would answer nothing: take a checkpoint from before its training diverged"
        )


def export_pt2(module: nn.Module, input_size: int) -> bytes:
    """Export a network for any batch size.

    Args:
        module: takes float32 [B, 3, input_size, input_size], returns logits [B, C]; it is put into eval mode.
        input_size: side of the input in pixels.

    Returns:
        The `.pt2` archive; `torch.export.load` reads it.

    Raises:
        ValueError: the network cannot be exported with a free batch size.
    """
    module = module.eval().cpu()
    # Two rows: torch.export treats a batch of one as a constant.
    example = torch.zeros(2, 3, input_size, input_size)
    buffer = io.BytesIO()
    with EXPORTING:
        try:
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
            raise ValueError(f"{type(module).__name__} cannot be exported for any batch size: {error}") from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # it names folders of this machine
        torch.export.save(program, buffer)
    return buffer.getvalue()


def load_pt2(data: bytes) -> nn.Module:
    """The network of an archive; float32 [B, 3, n, n] to logits [B, C].

    Raises:
        ValueError: it is no archive of a network, or holds what could run code.
    """
    with EXPORTING:
        network: nn.Module = load_graph(data).module()
    return network


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state: dict[str, Tensor] = load_file(path)
    return state


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = _code_in(path)
        if not names:
            raise
        # torch's own text advises to load the file with its code.
        raise ValueError(
            f"beside tensors it holds {', '.join(names)} (a setting, a metric or a whole network that was saved with "
            "them), and reading these runs code of the file, which is never done. Where you trust it, save the tensors "
            f"alone and name the new file: d = torch.load({path.name!r}, weights_only=False); "
            'torch.save(d["state_dict"], "weights.pth") - instead of "state_dict" the name that the weights have in d, '
            "or d.state_dict() where d is a network"
        ) from error


def _code_in(path: Path) -> list[str]:
    """Classes and functions that a pickle names and torch does not allow; none where that cannot be said."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    # Of a damaged file it fails with anything; the first error then says more.
    except Exception:
        return []


def _read_graph(path: Path) -> Any:
    return load_graph(path.read_bytes()).state_dict


_READERS = {".safetensors": _read_safetensors, ".pt2": _read_graph}
