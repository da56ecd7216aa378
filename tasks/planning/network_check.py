"""Before the first stage of a run: whether the networks of its spec can be built, fed and trained.

Otherwise an hour of ingest and labelling would end in the first forward pass. What was tried is remembered in
`STILLROOM_HOME/networks.json`, so that a run without work imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infra.digest import canonical_json
from infra.errors import UsageError
from tasks.data.weights import IN_STORE, PYPI
from tasks.pipeline.rates import read_file, write_entry
from tasks.spec import ModelSection, Spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tasks.teachers.weights_lookup import REGISTERED

FILE = "networks.json"
STAGES = ("teach", "label", "distill")
"""Stages that run networks of the spec."""

_CLASSES = 2  # their number is not known before the ingest, and changes no answer
_RULES = 1  # raised when the check refuses more than before


def check_networks(spec: Spec) -> list[str]:
    """Build every network of the spec and try it on images of zeros, unless that was done before.

    Files of weights are read; stored objects and registered students, which this project wrote, are not.

    Returns:
        What people should know of how weights were found in their files.

    Raises:
        UsageError: as `tasks.planning.tried_network.built_and_tried`.
    """
    known = read_file(FILE).get(_software(), {})
    known = known if isinstance(known, dict) else {}
    notes: list[str] = []
    for arm, section, part in _networks(spec):
        name = canonical_json(_details(section, spec, part)).decode()
        found = known.get(name)
        if not isinstance(found, list):
            from tasks.planning.tried_network import built_and_tried

            path = _file(section)
            found = list(built_and_tried(section, arm, input_side(section, spec), _CLASSES, path, part).notes)
            write_entry(FILE, _software(), name, found)
        notes += [f"{arm}: {note}" for note in found]
    return list(dict.fromkeys(notes))


def network_of(arm: str) -> str:
    """Name of an arm's network among those of `build_networks`; the student's own is ""."""
    return "" if arm in (TAUGHT, LABELS_ONLY) else f"student:{arm}"


def input_side(section: ModelSection, spec: Spec) -> int:
    """Side of the network's input in pixels."""
    return section.size or spec.views.size


def trained_parts(spec: Spec) -> dict[str, int]:
    """Images that a network sees at once in its trainings, the fewest, by the names of `build_networks`."""
    trains = {teacher.name: [teacher.train] for teacher in spec.teachers if teacher.train is not None}
    for arm in spec.arms:
        student = spec.student.of(arm)
        phases = [student.of_phase(phase.name) for phase in student.phases or []] or [student]
        trains.setdefault(network_of(arm), []).extend(phase.train for phase in phases)
    devices = spec.run.train.devices or 1
    return {
        name: min(max(1, train.batch // train.accumulate // devices) for train in own) for name, own in trains.items()
    }


def _networks(spec: Spec) -> Iterator[tuple[str, ModelSection, int | None]]:
    """Name, section and images at once of every network that the line builds."""
    parts = trained_parts(spec)
    for teacher in spec.teachers:
        if teacher.kind == "network":
            yield f"teacher {teacher.name}", teacher, parts.get(teacher.name)
    for arm in spec.arms:
        yield f"student {arm}", spec.student.of(arm), parts[network_of(arm)]


def _details(section: ModelSection, spec: Spec, part: int | None) -> Mapping[str, Any]:
    path, side = _file(section), input_side(section, spec)
    file = None
    if path is not None:
        if not path.is_file():
            raise UsageError(f"weights of {section.model}: there is no file {path}")
        about = path.stat()
        file = [str(path.resolve()), about.st_size, about.st_mtime_ns]
    return {
        "model": section.model,
        "options": section.build_options,
        "size": side,
        "weights": PYPI if section.weights == PYPI else file,
        "single": part == 1,
    }


def _file(section: ModelSection) -> Path | None:
    where = section.weights
    if where is None or where == PYPI or where.startswith((IN_STORE, REGISTERED)) or section.starts_from is not None:
        return None
    return Path(where)


def _software() -> str:
    return f"rules {_RULES}, torch {version('torch')}, timm {version('timm')}"
