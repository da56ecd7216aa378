"""What a training is asked to do, and which of it enters its key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.distill.request import DISTILL_NAME, STORED, Request, on_stored, terms_of
from tasks.distill.stage import student_request, student_steps
from tasks.spec import LossTerm, ModelSection, TeacherSection, TrainSection, parse_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tasks.spec.losses import terms_of_section
from tests.tiny import tiny_corpus, tiny_labels

TRAIN = TrainSection(steps=4, label_smoothing=0.1)
ARMS = (TAUGHT, LABELS_ONLY)
SPEC = """
name: s
store: .
corpus: {adapter: eyepacs, root: .}
teachers: [{name: t, model: micro_xs, train: {steps: 1}}]
student: {model: micro_xs, train: {epochs: 2, batch: 8}}
"""


def names(corpus: Corpus, losses: list[LossTerm] | None = None, *, taught: bool = True) -> list[str]:
    return [term.loss for term in terms_of(corpus, losses, TRAIN, taught=taught)]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("single", ["cross_entropy", "kl"]),
        ("ordinal", ["cumulative", "cumulative_kl"]),
        ("multilabel", ["binary", "soft_binary"]),
    ],
)
def test_default_losses_follow_the_task(task: str, expected: list[str], store: LocalStore) -> None:
    corpus = tiny_corpus(store, task=task)
    assert names(corpus) == expected
    assert names(corpus, taught=False) == expected[:1]


def test_long_tails_of_endoscopy_are_not_adjusted_by_default(store: LocalStore) -> None:
    corpus = tiny_corpus(store, modality="endoscopy")
    assert names(corpus) == ["cross_entropy", "kl"]


def test_without_teachers_their_terms_are_left_out(store: LocalStore) -> None:
    losses = [LossTerm(loss="kl"), LossTerm(loss="logit_adjusted")]
    assert names(tiny_corpus(store), losses, taught=False) == ["logit_adjusted"]


def test_without_teachers_an_objective_of_theirs_becomes_the_default(store: LocalStore) -> None:
    assert names(tiny_corpus(store), [LossTerm(loss="dist")], taught=False) == ["cross_entropy"]


def test_smoothing_reaches_labels_alone(store: LocalStore) -> None:
    assert [term.smoothing for term in terms_of(tiny_corpus(store), None, TRAIN, taught=True)] == [0.1, 0.0]


def test_a_loss_of_another_task_names_those_that_fit(store: LocalStore) -> None:
    with pytest.raises(UsageError, match=r"kl is for single and ordinal corpora.*there are binary"):
        names(tiny_corpus(store, task="multilabel"), [LossTerm(loss="kl")])


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (LossTerm(loss="dist"), r"student.loss: dist: the correlation.*take kl"),
        (LossTerm(loss="kl", standardise=True), r"student.loss: kl: `standardise`.*leave it out"),
    ],
)
def test_losses_that_need_three_classes_are_refused_for_two(loss: LossTerm, says: str, store: LocalStore) -> None:
    two = tiny_corpus(store, classes=2)
    with pytest.raises(UsageError, match=says):
        names(two, [loss])
    assert names(two, [LossTerm(loss="dist", options={"beta": 0})]) == ["dist"]
    assert names(tiny_corpus(store), [loss]) == [loss.loss]


def test_losses_of_a_whole_batch_are_refused_where_it_is_split(store: LocalStore) -> None:
    split = TrainSection(steps=4, batch=8, accumulate=2)
    losses = [LossTerm(loss="kl"), LossTerm(loss="rkd")]
    with pytest.raises(UsageError, match=r"student.loss: rkd reads a batch as a whole, .*parts of 4 images"):
        terms_of(tiny_corpus(store), losses, split, taught=True)
    assert [term.loss for term in terms_of(tiny_corpus(store), losses, split, taught=False)] == ["cross_entropy"]


def teacher(**values: Any) -> TeacherSection:
    return TeacherSection(name="t", model="micro_xs", train=TRAIN, **values)


def test_stored_features_are_read_where_teachers_keep_them() -> None:
    terms = terms_of_section([LossTerm(loss="fitnets")], smoothing=0.0)
    (pooled,) = on_stored(terms, [teacher(features="pooled")])
    (mapped,) = on_stored(terms, [teacher(features="blocks.1")])
    assert (pooled.student_taps, pooled.teacher_taps) == (("pooled",), (STORED,))
    assert (mapped.student_taps, mapped.teacher_taps) == (("features",), (STORED,))


@pytest.mark.parametrize("features", [None, "pooled"])
def test_features_that_nobody_stored_are_missed(features: str | None) -> None:
    terms = terms_of_section([LossTerm(loss="fitnets", teacher_taps=["blocks.0"])], smoothing=0.0)
    with pytest.raises(UsageError, match=rf"reads features blocks.0, and teacher t stores {features or 'none'}"):
        on_stored(terms, [teacher(features=features)])


def request(train: TrainSection, *, steps: int = 4, labels: Sequence[Manifest] = (), pool: str = "all") -> Request:
    return Request(
        stage=DISTILL_NAME,
        arm="taught",
        seed=0,
        model=ModelSection(model="micro_xs"),
        train=train,
        steps=steps,
        terms=[],
        section={"train": train.identity(), "pool": pool},
        labels=list(labels),
        select=None,
        pool=pool,
    )


def test_validation_labels_count_where_they_decide(store: LocalStore) -> None:
    few, more = tiny_corpus(store, val=8), tiny_corpus(store, val=9)
    judged = TrainSection(steps=4, early_stop=2)
    assert request(TRAIN).key(few, {}, "") == request(TRAIN).key(more, {}, "")
    assert request(judged).key(few, {}, "") != request(judged).key(more, {}, "")


@pytest.mark.parametrize(
    ("pool", "views", "steps", "says"),
    [
        ("labelled", 1, 50, "24 images in 2 stored views: each picture will be seen 33 times"),
        ("all", 1, 50, "32 images in 2 stored views: each picture will be seen 25 times"),
        ("labelled", 2, 15, ""),
        ("all", 1, 15, ""),
    ],
)
def test_pictures_that_come_too_often_are_told(pool: str, views: int, steps: int, says: str, store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = [tiny_labels(corpus, "t", lambda shard, view: np.zeros((len(shard), 3), dtype=np.float32), views=1)]
    advice = request(TRAIN, steps=steps, labels=labels, pool=pool).advice(corpus, views)
    assert advice.startswith(says)
    assert bool(advice) == bool(says)


def test_fresh_views_wear_nothing_out(store: LocalStore) -> None:
    assert request(TRAIN, steps=10_000).advice(tiny_corpus(store), 1) == ""


@pytest.mark.parametrize(("pool", "steps"), [("all", 8), ("labelled", 6)])
def test_epochs_count_the_images_of_the_pool_that_is_used(pool: str, steps: int, store: LocalStore) -> None:
    corpus = tiny_corpus(store)  # 24 labelled images of 32
    spec = parse_spec(SPEC, overrides=[f"student.pool={pool}"])
    labels = [tiny_labels(corpus, "t", lambda shard, view: np.zeros((len(shard), 3), dtype=np.float32), views=1)]
    found = [student_request(corpus, labels, None, spec, store, arm=arm, seed=0).steps for arm in ARMS]
    assert found == [steps] * len(ARMS)


def test_bounds_hold_for_every_arm_and_a_bound_that_changes_nothing_keeps_the_key(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = [tiny_labels(corpus, "t", lambda shard, view: np.zeros((len(shard), 3), dtype=np.float32), views=1)]

    def requests(bounds: str) -> list[Request]:
        spec = parse_spec(SPEC, overrides=[f"student.train={{epochs: 2, batch: 8{bounds}}}"])
        return [student_request(corpus, labels, None, spec, store, arm=arm, seed=0) for arm in ARMS]

    plain, loose, tight = (requests(bounds) for bounds in ("", ", min_steps: 3", ", min_steps: 50"))
    assert [one.steps for one in tight] == [50] * len(ARMS)
    assert [one.key(corpus, {}, "") for one in loose] == [one.key(corpus, {}, "") for one in plain]
    assert {one.key(corpus, {}, "") for one in tight}.isdisjoint({one.key(corpus, {}, "") for one in plain})


def test_a_phase_has_bounds_of_its_own(store: LocalStore) -> None:
    phases = "[{name: transfer, train: {epochs: 1, min_steps: 30}}, {name: tune, train: {epochs: 9, max_steps: 11}}]"
    spec = parse_spec(SPEC, overrides=[f"student.phases={phases}"])
    corpus = tiny_corpus(store)
    assert [student_steps(corpus, spec, "taught", name) for name in ("transfer", "tune")] == [30, 11]
    assert student_steps(corpus, spec, "labels_only") == 41
