"""The state dict of one network in what a training script saved: its place, the prefix of its names, averaged weights.

Scripts put weights under a name beside an optimiser, keep an averaged copy, and wrap the network before they save it:
Lightning's `model.`, `module.` of data-parallel and averaged models, `_orig_mod.` of torch.compile. Nothing of that is
known by its wrapper here: the place and the prefix are those under which most names of the wanted network are found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

DEPTH = 3
"""Mappings within mappings that are searched."""

_PLACES = ("", "state_dict", "model_state_dict", "model")
_COMPILED = "_orig_mod."
_AVERAGED = re.compile(r"(^|[_.])(ema|averaged?|swa)([_.]|$)")
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the network's tensors


@dataclass(frozen=True)
class FoundState:
    """Tensors by parameter name, and what a person should know of how they were found."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    place: str  # names of the mappings that it lies in, joined by dots
    prefix: str  # of its names, with its dot
    state: dict[str, Tensor]
    beside: tuple[str, ...]  # names without the prefix
    matches: int  # names of the wanted network among its names

    @property
    def averaged(self) -> bool:
        return bool(_AVERAGED.search(self.place) or _AVERAGED.search(self.prefix)) or _COUNTER in self.beside

    @property
    def title(self) -> str:
        return ".".join(part for part in (self.place, self.prefix.removesuffix(".")) if part) or "the file itself"


def find_state(raw: Any, own: Collection[str] = ()) -> FoundState:
    """The state dict of a network among what a file of weights holds.

    Args:
        raw: as it was read: tensors by name, or mappings that hold such.
        own: names of the wanted network's tensors; without them names are taken as they are.

    Raises:
        ValueError: there is none; or several fit equally, and their places are named.
    """
    found = [one for place, state in _state_dicts(raw, "", DEPTH) for one in _candidates(place, state, set(own))]
    if not found:
        raise ValueError("holds no state dict (tensors by parameter name)")
    most = max(one.matches for one in found)
    best = [one for one in found if one.matches == most]
    averaged = [one for one in best if one.averaged]
    chosen = min(averaged or best, key=_rank)
    equal = [one for one in averaged or best if _rank(one) == _rank(chosen)]
    if len(equal) > 1:
        raise ValueError(
            f"holds several networks that fit alike ({', '.join(sorted(one.title for one in equal))}); save the one "
            "that you mean to a file of its own"
        )
    notes = []
    others = [one.title for one in best if one is not chosen]
    if chosen.averaged:
        beside = f"; left out: {', '.join(others)}" if others else ""
        notes.append(f"its averaged (EMA) weights are taken, those of {chosen.title}{beside}")
    elif others:
        notes.append(f"the weights of {chosen.title} are taken; left out: {', '.join(others)}")
    rest = [name for name in chosen.beside if name != _COUNTER and not any(name.startswith(o.prefix) for o in best)]
    if rest:
        more = ", ..." if len(rest) > 3 else ""
        notes.append(f"{len(rest)} tensors beside the network's are left out: {', '.join(rest[:3])}{more}")
    return FoundState(chosen.state, tuple(notes))


def _rank(one: _Candidate) -> int:
    """Places where scripts put the network first; all others are alike."""
    return _PLACES.index(one.place) if one.place in _PLACES else len(_PLACES)


def _state_dicts(value: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Mappings of names to tensors, with their places."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        return
    if all(isinstance(tensor, Tensor) for tensor in value.values()):
        yield place, _uncompiled(value)
    elif depth:
        for name, inner in value.items():
            yield from _state_dicts(inner, f"{place}.{name}" if place else name, depth - 1)


def _uncompiled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the names that torch.compile puts before, and within, those of the modules that it wraps."""
    plain = {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}
    return plain if len(plain) == len(state) else dict(state)


def _candidates(place: str, state: dict[str, Tensor], own: set[str]) -> Iterator[_Candidate]:
    """A state dict under each prefix with the most names of the network; under none where no prefix has more."""
    found: Counter[str] = Counter()
    for name in state:
        for start in [0, *(dot.end() for dot in re.finditer(r"\.", name))]:
            found[name[:start]] += name[start:] in own
    most = found[""]
    prefixes = [""]
    for prefix, count in found.items():
        under = sum(name.startswith(prefix) for name in state)
        # Two names of another network may match by chance, as may layers that repeat within one.
        if count and 2 * count >= under and count >= most:
            prefixes = [prefix] if count > most else [*prefixes, prefix] if prefix else prefixes
            most = count
    for prefix in prefixes:
        inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        beside = tuple(name for name in state if not name.startswith(prefix))
        yield _Candidate(place, prefix, inner, beside, found[prefix])
