"""Folds over all patients: each is a test patient once, on the same shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from infra.errors import SpecError
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.pipeline.context import Context
from tasks.spec import RunSection
from tasks.spec.labels import LabelsSection
from tasks.subset.stage import subset
from tests.tasks.trained import tiny_spec
from tests.tiny import tiny_corpus

SPLITS = ("train", "val", "test")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def in_fold(whole: Corpus, **asked: Any) -> Corpus:
    context = Context(whole.store, run=RunSection())
    return Corpus(whole.store, subset(context, whole.manifest, LabelsSection(**asked)).manifest)


def labelled(corpus: Corpus, split: str) -> list[str]:
    return sorted(key for shard in corpus.of_split(split) for key in shard.keys[shard.labelled].tolist())


def every(corpus: Corpus) -> list[str]:
    return sorted(key for split in SPLITS for key in labelled(corpus, split))


def patients(corpus: Corpus, split: str) -> set[str]:
    return {str(name) for shard in corpus.of_split(split) for name in shard.patient[shard.used]}


def test_every_labelled_image_is_a_test_image_once(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    tested = [key for fold in range(4) for key in labelled(in_fold(whole, folds=4, fold=fold), "test")]
    assert sorted(tested) == every(whole)


def test_no_patient_is_in_two_splits(store: LocalStore) -> None:
    part = in_fold(tiny_corpus(store), folds=4, fold=1)
    seen = [patients(part, split) for split in SPLITS]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_unlabelled_images_of_tested_patients_do_not_train(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = in_fold(whole, folds=2, fold=0)
    pool = {k for s in part.of_split("train") for k in s.keys[s.used & ~s.labelled].tolist()}
    assert pool
    assert patients(part, "test").isdisjoint(patients(part, "train"))


def test_the_shards_are_those_of_the_whole_set(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = in_fold(whole, folds=2, fold=0)
    assert {shard.id for shard in part.shards} == {shard.id for shard in whole.shards}
    assert all(len(shard.keys) == len(shard.label) for shard in part.shards)


def test_a_share_of_labels_is_taken_of_the_fold_that_trains(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part, all_of_it = (in_fold(whole, folds=2, fold=0, **more) for more in ({"share": 0.5}, {}))
    assert labelled(part, "test") == labelled(all_of_it, "test")
    assert len(labelled(part, "train")) == pytest.approx(len(labelled(all_of_it, "train")) / 2, abs=2)


def test_official_folds_are_both_directions(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    first, second = (in_fold(whole, folds="official", fold=fold) for fold in (0, 1))
    assert labelled(first, "test") == labelled(whole, "test")
    assert labelled(second, "test") == sorted(labelled(whole, "train") + labelled(whole, "val"))


def test_multilabel_rows_keep_their_labels(store: LocalStore) -> None:
    whole = tiny_corpus(store, task="multilabel")
    part = in_fold(whole, folds=3, fold=2)
    found: dict[str, np.ndarray] = {}
    for shard in part.shards:
        assert shard.labels is not None
        found |= dict(zip(shard.keys[shard.labelled], shard.labels[shard.labelled], strict=True))
    for shard in whole.shards:
        assert shard.labels is not None
        for key, value in zip(shard.keys[shard.labelled], shard.labels[shard.labelled], strict=True):
            assert np.array_equal(found[key], value)


def test_more_folds_than_patients_is_an_error(store: LocalStore) -> None:
    with pytest.raises(SpecError, match=r"labels\.folds: 99 are asked for, and 20 patients have a label"):
        in_fold(tiny_corpus(store), folds=99, fold=0)


@pytest.mark.parametrize(
    "asked", [{"folds": 3}, {"fold": 0}, {"folds": 3, "fold": 3}, {"folds": "official", "fold": 2}]
)
def test_a_fold_is_one_of_its_folds(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="fold"):
        LabelsSection(**asked)


def test_a_view_may_not_mix_two_folds(store: LocalStore) -> None:
    with pytest.raises(SpecError, match=r"labels\.folds: views\.mix: cutmix mixes two images of one shard"):
        tiny_spec(store, "labels={folds: 2, fold: 0}", "views.mix=cutmix")


def test_without_folds_the_identity_is_that_of_earlier_releases() -> None:
    assert set(LabelsSection(share=0.5).identity()) == {"share", "patients", "least", "others", "pool", "seed"}
