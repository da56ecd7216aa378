"""The label stage: find a teacher's missing units, run its inference on the cluster, commit one manifest for it.

Every teacher is a step of its own. Teachers that start together share one pass first, so that one decode of an image
and one rendering of each view serve all of them; each then finds its units and commits its own manifest. Nothing here
imports torch, and a hit starts no worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from infra.errors import PermanentError
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.data.folds import fold_of
from tasks.data.tombstones import Tombstones
from tasks.data.weights import TEACHER_FILES
from tasks.label.job import STAGE, VERSION
from tasks.label.teacher_units import LabelUnit, look_up_records, teacher_units
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, UnitCount, run_stage, slug
from tasks.spec import Spec
from tasks.teachers.teacher import TeacherHandle, teacher_handle, teacher_model, upload_weights

__all__ = ["LABEL", "STAGE", "VERSION", "LabelWork", "TeacherHandle", "label", "label_together", "teacher_handle"]


class LabelWork(StageWork):
    """Soft labels of one teacher: the plain view of every shard, the random views of training shards.

    A unit is one view of one shard; a new view or shard labels what is new.

    Raises:
        UsageError: the teacher does not fit the corpus, its weights or the machines.
        BudgetError: more samples had to be kept out than `run.label` allows.
        CorruptError: stored images are damaged; every other shard is done first.
        PermanentError: the teacher failed on some shards; every other shard is done first; or it has no valid label of
            any training image.
    """

    stage, version = STAGE, VERSION

    def __init__(self, context: Context, corpus: Corpus, teacher: TeacherHandle, spec: Spec) -> None:
        super().__init__(context)
        self.corpus, self.teacher, self.spec = corpus, teacher, spec
        model = teacher_model(teacher, corpus, spec, context.store)
        folds = fold_of(corpus, len(model.folds)) if model.folds else {}
        self.units = teacher_units(corpus, model, spec.views.resolved(corpus.modality), folds, spec.val_views)
        self.together: list[LabelWork] = [self]
        self.result: StageResult | None = None
        self._found: Manifest | None = None
        self._looked_up = False

    @cached_property
    def key(self) -> str:
        return self.units.key

    def lookup(self) -> Manifest | None:
        """The committed manifest with all of its outputs; none where samples that were kept out are to be retried, or
        no training image has a valid label."""
        if self._found is None:
            manifest = super().lookup()
            again = manifest is not None and manifest.quarantine and self.context.run.retry_quarantined
            if manifest is not None and not again and not _says_nothing(manifest):
                self._found = manifest
        return self._found

    def missing(self) -> UnitCount:
        total = len(self.units.units)
        return UnitCount(total - len(self.pending()), total)

    def pending(self) -> list[LabelUnit]:
        """Units that are not in the store."""
        run, units = self.context.run, self.units
        if not self._looked_up:
            look_up_records(units, self.cache, verify=run.verify, retry_quarantined=run.retry_quarantined)
            self._looked_up = True
        elif units.pending and not run.retry_quarantined:
            # A shared pass that ended early leaves records that it did not hand on.
            for record in self.cache.each_recorded(STAGE, [unit.key for unit in units.pending]):
                units.add(record, made=False)
        return units.pending

    def make(self) -> Made:
        from tasks.label.label_fan_out import check_budget

        pending, units = self.pending(), self.units
        if not pending:
            check_budget(units, self.context)
        _label([(self, pending)])
        if units.says_nothing():
            why = next((f"; {key}: {reason}" for key, reason in units.kept_out().items()), "")
            raise PermanentError(
                f"teacher {self.teacher.name} has no valid label of any training image{why}. Look at its weights and "
                "its input, then label again (--retry-quarantined where neither file nor version is another)"
            )
        return Made(units.manifest(), len(units.made), len(units.units), units.samples)

    def check_table(self) -> None:
        """Where the teacher is a table: whether it has rows for the images that it is to teach.

        Raises:
            UsageError, BudgetError: see `tasks.label.table_keys`.
        """
        if self.units.teacher.kind != "table":
            return
        from tasks.label.label_fan_out import allowed_bad
        from tasks.label.table_keys import check_table_keys, refuse_erased_rows
        from tasks.teachers.table import load_table

        if isinstance(self.teacher.origin, Path):
            refuse_erased_rows(self.teacher.origin, self.teacher.name, Tombstones.read(self.store, self.corpus.title))
        upload_weights(self.teacher, self.store)
        private = self.spec.private
        weights = self.units.teacher.weights
        table = load_table(weights, self.corpus.classes, self.teacher.name, self.store, private=private)
        check_table_keys(self.units, table, allowed_bad(self.units, self.context), private=private)

    def report_progress(self) -> None:
        """Call the context's progress with units done and units in all."""
        self.context.progress(len(self.units.done), len(self.units.units))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        """The label card of all teachers that started together, once the last of them ended; none of a cached run."""
        from tasks.label.card import LabelRunFigures, label_card

        self.result = result
        results = [work.result for work in self.together if work.result is not None]
        made, total = sum(each.made for each in results), sum(each.total for each in results)
        if len(results) < len(self.together) or not made:
            return []
        figures = LabelRunFigures(seconds, made, total - made, sum(each.samples for each in results))
        card = label_card(self.corpus, [each.manifest for each in results], figures, self.store)
        title = self.corpus.title
        return [Artifact(f"label-card-{slug(title)}", f"Label card of {title}", card.markdown)]


def label(context: Context, corpus: Corpus, teacher: TeacherHandle, spec: Spec) -> StageResult:
    """Run the stage for one teacher; see `LabelWork`."""
    return run_stage(LabelWork(context, corpus, teacher, spec))


def label_together(works: Sequence[LabelWork]) -> None:
    """Make the missing units of several teachers in one pass; commits nothing.

    Each work takes the units that were made for it, and makes by itself what is missing after an error.

    Raises:
        As `LabelWork`, of the first error; the units that were made until then stay in the store.
    """
    order = [teacher.name for teacher in works[0].spec.teachers] if works else []
    together = sorted(works, key=lambda work: order.index(work.teacher.name))
    for work in together:
        work.together = together
    waiting = [work for work in together if work.lookup() is None]
    todo: list[tuple[LabelWork, list[LabelUnit]]] = []
    taken: set[str] = set()
    for work in waiting:
        # Two names of one network need the same units: the first makes them for both.
        pending = work.pending()
        todo.append((work, [unit for unit in pending if unit.key not in taken]))
        taken.update(unit.key for unit in pending)
    if len(waiting) > 1:
        _label(todo)
        for work in waiting:
            for other in waiting:
                work.units.copy_from(other.units)


def _says_nothing(manifest: Manifest) -> bool:
    train = manifest.outputs_where(kind="soft", split="train")
    return bool(train) and all(output.meta["invalid"] == output.samples for output in train)


def _label(todo: Sequence[tuple[LabelWork, list[LabelUnit]]]) -> None:
    """Run the inference of some units, no unit twice."""
    for work, _ in todo:
        work.report_progress()
    if not any(units for _, units in todo):
        return
    from tasks.label.label_fan_out import LabelFanOut

    for work, units in todo:
        if units:
            work.check_table()
    first = todo[0][0]
    fan_out = LabelFanOut(first.context, first.corpus, [(work.units, units) for work, units in todo])
    for work, units in todo:
        if units:
            upload_weights(work.teacher, work.store)

    def progress() -> None:
        for work, _ in todo:
            work.report_progress()

    fan_out.run(progress)


def _bind(context: Context, spec: Spec, *, corpus: Manifest, trained: Sequence[Manifest], teacher: str) -> LabelWork:
    read = Corpus(context.store, corpus)
    section = next(each for each in spec.teachers if each.name == teacher)
    return LabelWork(context, read, teacher_handle(section, trained, read, context.store), spec.for_labels)


LABEL = Stage("label", _bind, folders=("labels/", "reports/", TEACHER_FILES), share=label_together)
