"""What the line made of one condition of a study: the training set, teachers' soft labels, models and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from tasks.distill.request import DISTILL_NAME


@dataclass(frozen=True)
class Ran:
    """One run of the line.

    Attributes:
        corpus: the training set with the labels that the condition uses.
        labels: soft labels, one manifest a teacher.
        report: of stage evaluate.
        models: by arm of the report and seed; students and trained teachers.
    """

    corpus: Manifest
    labels: Sequence[Manifest]
    report: Manifest
    models: Mapping[str, Mapping[int, Manifest]]


def trainings_of(cache: StageCache, model: Manifest) -> list[Manifest]:
    """The trainings that a student went through, phase after phase; `model` is the last."""
    found = [model]
    while True:
        # A phase that starts from another names it among its inputs.
        hits = (cache.lookup(DISTILL_NAME, key) for key in found[0].inputs[1:])
        before = next((hit.manifest for hit in hits if hit is not None), None)
        if before is None:
            return found
        found.insert(0, before)
