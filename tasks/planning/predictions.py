"""How many images the networks of a spec predict: to compare teachers with labels alone, and for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks.planning.network_check import network_of
from tasks.spec import ModelSection, Spec
from tasks.spec.arms import LABELS_ONLY


@dataclass(frozen=True)
class Predicted:
    """What one network of the spec predicts, all its seeds and views together.

    Attributes:
        name: of the network, among those of `tasks.planning.networks.build_networks`.
        check: images that the stage compare predicts.
        report: images that the stage evaluate predicts beside those.
    """

    name: str
    section: ModelSection
    check: int
    report: int


def predictions(spec: Spec, in_split: Mapping[str, int], *, compares: bool) -> Iterator[Predicted]:
    """Of every trained teacher and of every arm of the student.

    Args:
        in_split: images by split.
        compares: whether the line has a stage compare: what that predicts the report finds.
    """
    val, test = in_split["val"], in_split["test"]
    for teacher in spec.teachers:
        if teacher.train is not None:
            times = 1 + (teacher.average or 0)
            yield _predicted(teacher.name, teacher, times, val, test, checked=compares)
    for arm in spec.arms:
        times, checked = len(spec.student.seeds), compares and arm == LABELS_ONLY
        yield _predicted(network_of(arm), spec.student.of(arm), times, val, test, checked=checked)


def _predicted(name: str, section: ModelSection, times: int, val: int, test: int, *, checked: bool) -> Predicted:
    check = times * val if checked else 0
    return Predicted(name, section, check, times * (val + test) - check)
