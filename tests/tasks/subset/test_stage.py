"""The stage subset: fewer labels, the same shards, and validation and test as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.data.tombstones import Tombstones
from tasks.maintenance.forgetting.survey import affected_manifests, affected_sets
from tasks.maintenance.store_contents import read_contents
from tasks.pipeline.context import Context
from tasks.pipeline.stage import run_stage
from tasks.spec import RunSection
from tasks.spec.labels import LabelsSection
from tasks.subset.stage import FACT, SubsetWork, subset
from tests.tiny import tiny_corpus


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def made(store: LocalStore, whole: Manifest, **asked: Any) -> Manifest:
    return subset(Context(store, run=RunSection()), whole, LabelsSection(**asked)).manifest


def in_train(corpus: Corpus, name: str) -> int:
    return sum(int(getattr(shard, name).sum()) for shard in corpus.of_split("train"))


def test_a_share_of_the_training_labels_stays(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = Corpus(store, made(store, whole.manifest, share=0.25))
    assert (in_train(whole, "labelled"), in_train(part, "labelled")) == (24, 6)


def test_images_without_their_label_are_in_the_pool(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = Corpus(store, made(store, whole.manifest, share=0.25))
    assert in_train(part, "used") == in_train(whole, "used") == 32


def test_others_can_be_left_out(store: LocalStore) -> None:
    part = Corpus(store, made(store, tiny_corpus(store).manifest, share=0.25, others="left_out"))
    assert (in_train(part, "used"), in_train(part, "labelled")) == (14, 6)


def test_the_pool_can_be_smaller(store: LocalStore) -> None:
    part = Corpus(store, made(store, tiny_corpus(store).manifest, pool=0.5))
    assert (in_train(part, "used"), in_train(part, "labelled")) == (28, 24)


def test_validation_and_test_labels_stay(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = Corpus(store, made(store, whole.manifest, share=0.25))
    for split in ("val", "test"):
        for before, after in zip(whole.of_split(split), part.of_split(split), strict=True):
            assert before.label.tolist() == after.label.tolist()


def test_multilabel_images_lose_all_their_labels(store: LocalStore) -> None:
    whole = tiny_corpus(store, task="multilabel")
    part = Corpus(store, made(store, whole.manifest, patients=9, least=1))
    assert in_train(part, "labelled") < in_train(whole, "labelled")
    for shard in part.of_split("train"):
        assert shard.labels is not None
        assert ((shard.labels >= 0).all(axis=1) | (shard.labels < 0).all(axis=1)).all()


def test_shards_are_those_of_the_whole_set(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = Corpus(store, made(store, whole.manifest, share=0.25))
    assert [shard.id for shard in part.shards] == [shard.id for shard in whole.shards]


def test_the_manifest_counts_what_is_used(store: LocalStore) -> None:
    facts = made(store, tiny_corpus(store).manifest, share=0.25).facts
    assert sum(facts["counts"]["train"].values()) == 6
    assert facts["unlabelled"] == 26
    assert facts[FACT]["labelled_patients"] == [3, 12]


def test_a_second_run_finds_it(store: LocalStore) -> None:
    whole = tiny_corpus(store).manifest
    context = Context(store, run=RunSection())
    states = [subset(context, whole, LabelsSection(share=0.25)).cached for _ in range(2)]
    assert states == [False, True]


def test_forget_knows_it_with_the_splits_of_the_erased_images(store: LocalStore) -> None:
    whole = tiny_corpus(store)
    part = made(store, whole.manifest, share=0.25)
    (source,) = {row["source"] for row in whole.catalog.to_pylist() if row["key"] == whole.of_split("val")[0].keys[0]}
    affected = affected_manifests(store, [whole.manifest], Tombstones.of({"source": [source]}))
    found = affected_sets(store, read_contents(store), affected)
    assert [(each.summary.digest, each.splits) for each in found] == [(part.digest, frozenset({"val"}))]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"share": 0.5, "patients": 3}, "give share or patients, not both"),
        ({}, "say how many labels are kept"),
        ({"share": 0.0}, "greater than 0"),
    ],
)
def test_a_section_that_says_nothing_or_two_things_is_refused(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LabelsSection(**asked)


def test_people_are_shown_what_is_used(store: LocalStore) -> None:
    work = SubsetWork(Context(store, run=RunSection()), tiny_corpus(store).manifest, LabelsSection(share=0.25))
    (artifact,) = work.artifacts(run_stage(work), 0.0)
    assert {"": "labelled patients", "used": "3", "of": "12"} in artifact.content
