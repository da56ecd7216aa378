"""Folds of labelled training images by patient."""

from __future__ import annotations

import numpy as np
import pytest

from infra.errors import UsageError
from infra.storage.store import LocalStore
from tasks.data.folds import NO_FOLD, WithoutFold, fold_of
from tests.tiny import tiny_corpus


def test_every_labelled_training_image_has_a_fold_and_no_other(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    folds = fold_of(corpus, 3)
    assert [corpus.shards[number].split for number in folds] == ["train"] * len(folds)
    for number, own in folds.items():
        assert own.dtype == np.int8
        assert np.array_equal(own != NO_FOLD, corpus.shards[number].labelled)
    assert {int(fold) for own in folds.values() for fold in own} == {NO_FOLD, 0, 1, 2}


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_a_patient_never_straddles_folds(store: LocalStore, task: str) -> None:
    corpus = tiny_corpus(store, task=task, train=60)
    seen: dict[str, set[int]] = {}
    for number, own in fold_of(corpus, 4).items():
        for patient, fold in zip(corpus.shards[number].patient, own.tolist(), strict=True):
            if fold != NO_FOLD:
                seen.setdefault(patient, set()).add(fold)
    assert len(seen) == 30
    assert all(len(folds) == 1 for folds in seen.values())


def test_images_that_come_later_move_none(store: LocalStore) -> None:
    before, after = (
        {
            key: fold
            for number, own in fold_of(corpus, 3).items()
            for key, fold in zip(corpus.shards[number].keys, own.tolist(), strict=True)
        }
        for corpus in (tiny_corpus(store, unlabelled=0), tiny_corpus(store, train=40, unlabelled=0))
    )
    assert len(after) > len(before)
    assert before.items() <= after.items()


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_a_fold_is_held_out_of_the_labels_alone(store: LocalStore, task: str) -> None:
    whole = tiny_corpus(store, task=task)
    folds = fold_of(whole, 3)
    rest = WithoutFold(whole, 1, 3)
    for number, (shard, all_of_it) in enumerate(zip(rest.shards, whole.shards, strict=True)):
        assert np.array_equal(shard.keys, all_of_it.keys)
        own = folds.get(number, np.full(len(shard), NO_FOLD))
        assert np.array_equal(shard.labelled, all_of_it.labelled & (own != 1))
    assert rest.facts()["held_out"] == sum(int((own == 1).sum()) for own in folds.values())


def test_each_fold_has_a_key_of_its_own_and_keeps_it(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    sections = [WithoutFold(corpus, fold, 3).section() for fold in range(3)]
    assert len({section["keys"] for section in sections}) == 3
    assert sections == [WithoutFold(tiny_corpus(store), fold, 3).section() for fold in range(3)]


def test_a_class_that_only_the_fold_shows_is_told(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=12, classes=6, seed=3)
    rests = [WithoutFold(corpus, fold, 2) for fold in range(2)]
    for rest in rests:
        left = {int(label) for shard in rest.of_split("train") for label in shard.label[shard.labelled]}
        assert rest.facts()["lacking"] == [f"class-{number}" for number in range(6) if number not in left]
    assert any(rest.facts()["lacking"] for rest in rests)


def test_more_folds_than_the_patients_allow_are_refused(store: LocalStore) -> None:
    with pytest.raises(UsageError, match=r"folds: 40 is too many .* of tiny: fold \d+ has 0 patients, it needs 2"):
        WithoutFold(tiny_corpus(store), 0, 40)
