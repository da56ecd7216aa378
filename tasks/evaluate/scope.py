"""What an evaluation covers, by corpus and spec: its models, the main metric, the first referred grade. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import SpecError, UsageError
from infra.storage.manifest import Manifest
from models.augmentation.draws import ViewRecipe
from models.statistics.logit_shift import DECISIONS
from models.statistics.metrics import FIT_FREE, FITTED, MAIN, names
from tasks.data.catalog import MISSING, OK, QUARANTINED
from tasks.data.corpus import Corpus
from tasks.data.decision_units import default_unit, known_units
from tasks.evaluate.screening import Referred, referred_of
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT

JUDGED = ("val", "test")
"""Splits whose images are predicted and compared with their labels."""

PREDICT_STAGE = "predict"
"""Stage in the records of units and in the quarantine; never renamed."""

TEACH_STAGE = "teach"
"""Stage of the manifests of trained teachers (`tasks.distill.request.TEACH_NAME`)."""

DECIDED = ("qwk_cut_points", "referable_auc")
"""Metrics of grades that may be the main one though they are computed from decisions or for one threshold."""


def check_models(corpus: Corpus, models: Sequence[Manifest], spec: Spec) -> None:
    """Whether the models and the section `evaluate:` fit the corpus.

    Raises:
        UsageError: no model was given, or one that knows other classes.
        SpecError: `evaluate.metric` is no metric of the corpus's task, `evaluate.referable` no grade of it,
            or one of the section's keys does not fit the corpus.
    """
    if not models:
        raise UsageError("evaluate needs at least one trained model")
    for model in models:
        if list(model.facts["classes"]) != corpus.classes:
            raise UsageError(
                f"{model.facts['arm']} seed {model.facts['seed']} knows the classes {model.facts['classes']}, "
                f"the corpus {corpus.title} has {corpus.classes}"
            )
    referable = spec.evaluate.referable
    if referable is not None and corpus.task != "ordinal":
        raise SpecError(f"evaluate.referable: {corpus.title} has task {corpus.task}, not ordinal; leave it out")
    if referable is not None and referable >= len(corpus.classes):
        raise SpecError(f"evaluate.referable: {referable} is past the last grade, {len(corpus.classes) - 1}")
    if spec.evaluate.decide_for is not None and corpus.task != "single":
        raise SpecError(f"evaluate.decide_for: {corpus.title} has task {corpus.task}, not single; leave it out")
    _check_unit(corpus, spec)
    metric = spec.evaluate.metric
    if metric is None:
        return
    known = [*names(corpus.task), *(DECIDED if corpus.task == "ordinal" else ())]
    if metric not in known:
        near = difflib.get_close_matches(metric, known, n=1, cutoff=0.0)
        raise SpecError(f"evaluate.metric: {metric!r} is not one of {', '.join(known)}; did you mean {near[0]}?")
    if metric == "referable_auc" and first_referred(corpus, spec) is None:
        raise SpecError("evaluate.metric: referable_auc needs the first grade that is referred; set evaluate.referable")
    if metric in FITTED and not _judged_val(corpus):
        raise SpecError(
            f"evaluate.metric: {metric} is fitted on validation images, and none of {corpus.title} has a label; take "
            f"{FIT_FREE[corpus.task]}, or see corpus.split.val"
        )


def in_order(models: Iterable[Manifest]) -> list[Manifest]:
    """Models as the report lists them: taught, other students, labels_only, teachers; by seed."""
    return sorted(models, key=_order)


def _order(model: Manifest) -> tuple[int, str, int, str]:
    arm = str(model.facts["arm"])
    rank = 0 if arm == TAUGHT else 2 if arm == LABELS_ONLY else 3 if arm.startswith("teacher:") else 1
    return (rank, arm, int(model.facts["seed"]), model.key)


def main_metric(corpus: Corpus, spec: Spec) -> str:
    """The metric that judges the models on the test images.

    Where nothing can be fitted on validation images, the default is a metric that needs no fit.
    """
    if spec.evaluate.metric is not None:
        return spec.evaluate.metric
    metric = MAIN[corpus.task]
    return FIT_FREE[corpus.task] if metric in FITTED and not _judged_val(corpus) else metric


def decided_for(corpus: Corpus, spec: Spec) -> str | None:
    """The metric that a shift of the logits is chosen for; None where the classes are not exclusive and unordered."""
    if corpus.task != "single":
        return None
    if spec.evaluate.decide_for is not None:
        return spec.evaluate.decide_for
    main = main_metric(corpus, spec)
    return main if main in DECISIONS else "macro_f1"


def _judged_val(corpus: Corpus) -> bool:
    return any(shard.labelled.any() for shard in corpus.of_split("val"))


def averaged_views(spec: Spec) -> dict[str, int]:
    """Random views that a model's probabilities are averaged over beside the plain one, by arm; only where some are."""
    return {f"teacher:{teacher.name}": teacher.average for teacher in spec.teachers if teacher.average}


@dataclass(frozen=True)
class WholeTeacher:
    """A teacher of the spec as it teaches: the mean of its members over their views.

    Attributes:
        arm: `teacher:<name>`, as the spec has the name.
        members: arms of its members; its own alone where it has none.
        views: of each image that a member's probabilities are averaged over.
    """

    arm: str
    members: tuple[str, ...]
    views: int


def whole_teachers(spec: Spec) -> list[WholeTeacher]:
    """The teachers that the spec trains, in its order."""
    trained = [teacher for teacher in spec.teachers if teacher.train is not None]
    return [
        WholeTeacher(
            f"teacher:{whole}",
            tuple(f"teacher:{each.name}" for each in trained if each.whole == whole),
            1 + next(each.average or 0 for each in trained if each.whole == whole),
        )
        for whole in dict.fromkeys(teacher.whole for teacher in trained)
    ]


def as_named(models: Sequence[Manifest], spec: Spec) -> list[Manifest]:
    """Models whose teachers have the names of today's spec.

    A name is no part of what a training is, so a training is found under the name that its teacher had when it was
    made.

    Args:
        models: those of stage teach in the order of the spec's trained teachers.
    """
    names = iter([teacher.name for teacher in spec.teachers if teacher.train is not None])
    return [
        model.model_copy(update={"facts": {**model.facts, "arm": f"teacher:{next(names)}"}})
        if model.stage == TEACH_STAGE
        else model
        for model in models
    ]


def random_views(corpus: Corpus, spec: Spec, size: int) -> ViewRecipe:
    """The recipe of the random views that models are judged by.

    Args:
        size: side of the views that the model was trained on, in pixels.
    """
    return ViewRecipe.from_values({**spec.views.resolved(corpus.modality).model_dump(), "size": size})


def first_referred(corpus: Corpus, spec: Spec) -> int | None:
    """The first grade that is referred; None where none is.

    Five grades of fundus images are those of diabetic retinopathy, of which moderate (2) and worse are referred.
    """
    if corpus.task != "ordinal" or spec.evaluate.referable is not None:
        return spec.evaluate.referable
    return 2 if corpus.modality == "fundus" and len(corpus.classes) == 5 else None


def decision_unit(corpus: Corpus, spec: Spec) -> str:
    """What referral is decided for; see `tasks.data.decision_units.default_unit` where the spec names nothing."""
    return spec.evaluate.unit or default_unit(_judged_rows(corpus))


def referred(corpus: Corpus, spec: Spec) -> Referred | None:
    """What is referred; None where nothing is."""
    return referred_of(corpus.task, corpus.classes, first_referred(corpus, spec))


def _judged_rows(corpus: Corpus) -> pa.Table:
    """Catalog rows of used validation and test images."""
    catalog = corpus.catalog
    judged = pc.and_(pc.equal(catalog["status"], OK), pc.is_in(catalog["split"], value_set=pa.array(JUDGED)))
    return catalog.filter(judged)


def _check_unit(corpus: Corpus, spec: Spec) -> None:
    unit = spec.evaluate.unit
    if unit is None:
        return
    if referred(corpus, spec) is None:
        raise SpecError(
            f"evaluate.unit: nothing is referred in {corpus.title}, so no unit is decided for; leave it out, or "
            "set evaluate.referable where it has grades"
        )
    known = known_units(_judged_rows(corpus))
    if not known[unit]:
        there = ", ".join(name for name, count in known.items() if count)
        raise SpecError(f"evaluate.unit: of no judged image of {corpus.title} the {unit} is known; take {there}")


def pool_is_used(spec: Spec) -> bool:
    """Whether the taught student, or one of its phases, is shown unlabelled images."""
    student = spec.student
    return "all" in ([phase.pool for phase in student.phases] if student.phases else [student.pool])


def is_phantom(spec: Spec) -> bool:
    """Whether the images were drawn by code."""
    return all(corpus.adapter.startswith("phantom-") for corpus in spec.each_corpus)


def kept_out(corpus: Corpus) -> dict[str, int]:
    """How many catalog rows are quarantined, and how many have no image."""
    status = corpus.catalog["status"].to_pylist()
    return {QUARANTINED: status.count(QUARANTINED), MISSING: status.count(MISSING)}
