"""The stage compare: are the teachers better on validation than the student on labels alone? No torch, no image.

A teacher that is no better than what it is to teach cannot teach. Both sides were validated while they trained, on the
plain view of the same labelled images; this stage reads those figures. It ends before labelling starts where the spec
requires a better teacher (`teachers.require_better`), and otherwise beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from infra.digest import unit_key
from infra.errors import PermanentError
from infra.storage.manifest import Manifest
from models.statistics.metrics import LOWER_IS_BETTER, main_metric, selecting_metric
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork
from tasks.spec import Spec

STAGE = "compare"
VERSION = 1


class TeacherCheck(StageWork):
    """Compare every trained teacher with the mean of the students on labels alone, by the main metric on validation.

    The manifest has no outputs; its facts are `metric`, `student` (mean over seeds, or None where it is not known),
    `seeds` and `teachers`: by name `value` and `better` (None where either side is not known).

    Args:
        teachers: manifests of the trainings on all labels.
        students: manifests of the arm labels_only, one a seed.

    Raises:
        PermanentError: the spec requires a better teacher, and one is not better, or it cannot be told.
    """

    stage, version = STAGE, VERSION

    def __init__(self, context: Context, teachers: Sequence[Manifest], students: Sequence[Manifest], spec: Spec):
        super().__init__(context)
        self.teachers, self.students, self.spec = teachers, students, spec
        self.required = sorted(teacher.name for teacher in spec.teachers if teacher.require_better)

    @cached_property
    def key(self) -> str:
        trained = [manifest.digest for manifest in (*self.teachers, *self.students)]
        return unit_key(STAGE, VERSION, inputs=trained, section={"metric": self._metric, "required": self.required})

    @property
    def _metric(self) -> str:
        # Histories have the metric that weights are chosen by: it needs no fit on the images that it judges.
        return selecting_metric(self.spec.evaluate.metric or main_metric(str(self.students[0].facts["task"])))

    def make(self) -> Made:
        facts = compared(
            self._metric,
            {str(manifest.facts["arm"]).partition(":")[2]: manifest.facts["best"] for manifest in self.teachers},
            [manifest.facts["best"] for manifest in self.students],
        )
        for name in self.required:
            if facts["teachers"][name]["better"] is not True:
                raise PermanentError(
                    f"{line_of(facts, name)}. It cannot teach, and `require_better` is set: train a better teacher "
                    "(higher resolution, pretrained weights, more steps), or leave `require_better` out"
                )
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[manifest.digest for manifest in (*self.teachers, *self.students)],
            section={"metric": self._metric, "required": self.required},
            outputs=[],
            facts=facts,
        )
        return Made(manifest, made=1, total=1)

    def count(self, manifest: Manifest) -> int:
        return 1

    def finish(self, manifest: Manifest) -> None:
        for name in manifest.facts["teachers"]:
            self.context.message(line_of(manifest.facts, name))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        facts = result.manifest.facts
        text = "\n".join(f"- {line_of(facts, name)}" for name in facts["teachers"])
        return [Artifact("teacher-check", "Teachers beside the student on labels alone, on validation", text)]


def compared(
    metric: str, teachers: Mapping[str, Mapping[str, Any]], students: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The facts of a check; see `TeacherCheck`.

    Args:
        teachers, students: rows of the histories that the kept weights belong to.
    """
    column, sign = f"val_{metric}", -1 if metric in LOWER_IS_BETTER else 1
    known = [float(row[column]) for row in students if column in row]
    student = float(np.mean(known)) if known and len(known) == len(students) else None
    found = {}
    for name, row in teachers.items():
        value = float(row[column]) if column in row else None
        better = None if value is None or student is None else sign * value > sign * student
        found[name] = {"value": value, "better": better}
    return {"metric": metric, "student": student, "seeds": len(students), "teachers": found}


def line_of(facts: Mapping[str, Any], name: str) -> str:
    """One teacher's part of the facts for people."""
    teacher, student, metric = facts["teachers"][name], facts["student"], facts["metric"]
    if teacher["better"] is None:
        return f"teacher {name}: no {metric} on validation is known of it or of the student on labels alone"
    seeds = f"mean of {facts['seeds']} seeds" if facts["seeds"] > 1 else "1 seed"
    verdict = "better than" if teacher["better"] else "NO better than"
    return (
        f"teacher {name} is {verdict} the student on labels alone: {metric} {teacher['value']:.3f} "
        f"against {student:.3f} ({seeds}) on validation"
    )


def _bind(context: Context, spec: Spec, *, teachers: Sequence[Manifest], students: Sequence[Manifest]) -> TeacherCheck:
    return TeacherCheck(context, teachers, students, spec)


COMPARE = Stage("compare", _bind)
