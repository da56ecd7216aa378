"""The stage compare: are the teachers better on validation than the student on labels alone?

A teacher that is no better than what it is to teach cannot teach. Teachers are judged as they teach, their members and
views averaged, the students on the plain view, all on the labelled validation images; what is predicted here is found
by the stage evaluate. The stage ends before labelling starts where the spec requires a better teacher
(`teachers.require_better`), and otherwise beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.errors import PermanentError
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.evaluate.predicted_arms import arms_of, truth_of
from tasks.evaluate.scope import as_named, averaged_views, check_models, first_referred, random_views, whole_teachers
from tasks.evaluate.teacher_verdicts import BETTER, judging_metric, teachers_on_validation, verdict_text
from tasks.evaluate.units import count_units, predict_all
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, UnitCount
from tasks.spec import Spec

STAGE = "compare"
VERSION = 2

SPLITS = ("val",)
"""Splits that teachers and students are compared on."""


class TeacherCheck(StageWork):
    """Compare every trained teacher, and the mean of several, with the mean over seeds of the students on labels alone.

    The manifest has no outputs; its facts are `metric` and `teachers`, the rows of
    `tasks.evaluate.teacher_verdicts.verdicts`. Images that kill the process that predicts them are in its quarantine.

    Args:
        teachers: manifests of the trainings on all labels, in the order of the spec's trained teachers.
        students: manifests of the arm labels_only, one a seed.

    Raises:
        SpecError, UsageError: as of `tasks.evaluate.stage.Evaluation`.
        PermanentError: the spec requires a better teacher, and one is not better, or it cannot be told.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        corpus: Corpus,
        teachers: Sequence[Manifest],
        students: Sequence[Manifest],
        spec: Spec,
    ) -> None:
        super().__init__(context)
        self.corpus, self.spec = corpus, spec
        self.trained = [*students, *teachers]
        self.models = as_named(self.trained, spec)
        self.required = {f"teacher:{each.whole}": each.require_better for each in spec.teachers if each.require_better}
        check_models(corpus, self.models, spec)

    @cached_property
    def key(self) -> str:
        """Of the models, the labelled validation shards and today's labels, and how they are judged."""
        corpus = self.corpus
        recipe = random_views(corpus, self.spec, self.spec.views.size)
        shards = [shard for split in SPLITS for shard in corpus.of_split(split) if shard.labelled.any()]
        return unit_key(
            STAGE,
            VERSION,
            inputs=[
                *(model.output(kind="model").id for model in self.trained),
                *(shard.id for shard in shards),
                corpus.manifest.output(kind="catalog").id,
            ],
            section={**self._section(), **({"views": recipe.recipe_id} if averaged_views(self.spec) else {})},
        )

    def _section(self) -> dict[str, Any]:
        """How teachers and students are judged; it names nothing that is not in the store, so that gc keeps it."""
        corpus, spec = self.corpus, self.spec
        return {
            "metric": judging_metric(corpus, spec),
            "bootstrap": spec.evaluate.bootstrap,
            "bins": spec.evaluate.bins,
            "referable": first_referred(corpus, spec),
            "task": corpus.task,
            "classes": corpus.classes,
            "teachers": {whole.arm: [list(whole.members), whole.views] for whole in whole_teachers(spec)},
            "required": self.required,
        }

    def lookup(self) -> Manifest | None:
        manifest = super().lookup()
        again = manifest is not None and manifest.quarantine and self.context.run.retry_quarantined
        return None if again else manifest

    def missing(self) -> UnitCount:
        return count_units(self.context, self.corpus, self.models, self.spec, SPLITS)

    def make(self) -> Made:
        corpus, spec = self.corpus, self.spec
        found = predict_all(self.context, corpus, self.models, spec, SPLITS)
        arms = arms_of(corpus, self.models, found, SPLITS)
        rows = teachers_on_validation(corpus, spec, arms, truth_of(corpus, "val", found))
        self._stop_where_asked(rows)
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[corpus.manifest.digest, *(manifest.digest for manifest in self.trained)],
            section=self._section(),
            outputs=[],
            quarantine=found.quarantine(corpus),
            facts={"metric": judging_metric(corpus, spec), "teachers": rows},
        )
        return Made(manifest, made=1, total=1)

    def _stop_where_asked(self, rows: Sequence[Mapping[str, Any]]) -> None:
        missed = [text for row in rows if (text := self._missed(row))]
        if missed:
            # The error names what was required; the log says all of it.
            for row in rows:
                self.context.message(verdict_text(row))
            raise PermanentError(" ".join(missed))

    def _missed(self, row: Mapping[str, Any]) -> str:
        """What to do where a teacher is not as good as the spec requires; "" where it is, or nothing is required."""
        required = self.required.get(row["teacher"])
        if not required or row["verdict"] == BETTER:
            return ""
        if row["difference"] is None:
            return (
                f"{verdict_text(row)} Whether it can teach is not known, and `require_better` is set: label validation "
                "images of every class, or leave `require_better` out."
            )
        better = (
            "train a better teacher (higher resolution, pretrained weights, more steps, `members`, `average`), or "
            "leave `require_better` out"
        )
        if row["difference"] <= 0:
            return f"{verdict_text(row)} It cannot teach, and `require_better` is set: {better}."
        if required == "clearly":
            return (
                f"{verdict_text(row)} The interval is not above zero, and `require_better: clearly` is set: label more "
                "validation images or train more seeds of the student (student.seeds), write `require_better: true`, "
                f"{better}."
            )
        return ""

    def count(self, manifest: Manifest) -> int:
        return 1

    def finish(self, manifest: Manifest) -> None:
        for row in manifest.facts["teachers"]:
            self.context.message(verdict_text(row))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        text = "\n".join(f"- {verdict_text(row)}" for row in result.manifest.facts["teachers"])
        return [Artifact("teacher-check", "Teachers beside the student on labels alone, on validation", text)]


def _bind(
    context: Context, spec: Spec, *, corpus: Manifest, teachers: Sequence[Manifest], students: Sequence[Manifest]
) -> TeacherCheck:
    return TeacherCheck(context, Corpus(context.store, corpus), teachers, students, spec)


COMPARE = Stage("compare", _bind, folders=("predictions/",))
