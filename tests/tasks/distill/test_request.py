"""What a training is asked to do, and which of it enters its key."""

from __future__ import annotations

from typing import Any

import pytest

from infra.errors import UsageError
from infra.store import LocalStore
from tasks.corpus import Corpus
from tasks.distill.request import STORED, TEACH, Request, on_stored, terms_of
from tasks.spec import LossTerm, ModelSection, TeacherSection, TrainSection
from tasks.spec.losses import terms_of_section
from tests.tiny import tiny_corpus

TRAIN = TrainSection(steps=4, label_smoothing=0.1)


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


def test_long_tails_of_endoscopy_are_adjusted(store: LocalStore) -> None:
    corpus = tiny_corpus(store, modality="endoscopy")
    assert names(corpus) == ["logit_adjusted", "kl"]


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


def request(train: TrainSection) -> Request:
    return Request(
        stage=TEACH,
        arm="teacher:t",
        seed=0,
        model=ModelSection(model="micro_xs"),
        train=train,
        steps=4,
        terms=[],
        section={"train": train.identity()},
        labels=[],
        select=None,
    )


def test_validation_labels_count_where_they_decide(store: LocalStore) -> None:
    few, more = tiny_corpus(store, val=8), tiny_corpus(store, val=9)
    judged = TrainSection(steps=4, early_stop=2)
    assert request(TRAIN).key(few, {}, "") == request(TRAIN).key(more, {}, "")
    assert request(judged).key(few, {}, "") != request(judged).key(more, {}, "")
