"""The stage as a whole: weights by key, facts, cache, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import CorruptError, UsageError
from infra.storage.store import LocalStore
from tasks.data.catalog import read_sample_weights
from tasks.data.corpus import Shard
from tasks.pipeline.context import Context
from tasks.select import select
from tests.tasks.select.conftest import Taught, by_key, taught
from tests.tasks.select.pools import section
from tests.tiny import tiny_corpus, tiny_labels


def rising(shard: Shard, view: int) -> np.ndarray:
    """Row r is sure of class r mod 3 by 0.2 r."""
    rows = np.arange(len(shard))
    return (np.eye(3)[rows % 3] * rows[:, None] * 0.2).astype(np.float32)


def test_unsure_unlabelled_samples_are_dropped_and_labelled_kept(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    manifest = select(
        Context(store), corpus, [tiny_labels(corpus, "a", rising)], section(calibrate=False, min_confidence=0.8)
    ).manifest
    weights = read_sample_weights(store, manifest)
    confidence = np.exp(0.2 * np.arange(16)) / (np.exp(0.2 * np.arange(16)) + 2)
    expected = [1.0 if row < 8 or confidence[row] >= 0.8 else 0.0 for row in range(16)]
    assert 0.0 in expected[8:]
    assert 1.0 in expected[8:]
    assert [weights[f"train-{row:04d}"] for row in range(16)] == expected
    assert manifest.facts["dropped"] == expected.count(0.0)
    assert manifest.facts["kept"] == expected.count(1.0)


def test_calibration_reaches_the_confidences(store: LocalStore) -> None:
    def boastful(shard: Shard, view: int) -> np.ndarray:
        # Right in three of four val images and equally sure of all: the calibrated sureness is 0.75.
        named = np.where(np.arange(len(shard)) % 4 == 0, (shard.label + 1) % 3, shard.label)
        return (np.eye(3)[named] * 20).astype(np.float32)

    corpus = tiny_corpus(store, val=16)
    labels = tiny_labels(corpus, "a", boastful)
    assert select(Context(store), corpus, [labels], section(min_confidence=0.7)).manifest.facts["dropped"] == 0
    assert select(Context(store), corpus, [labels], section(min_confidence=0.8)).manifest.facts["dropped"] == 8
    assert (
        select(Context(store), corpus, [labels], section(min_confidence=0.8, calibrate=False)).manifest.facts["dropped"]
        == 0
    )


def test_sample_without_a_valid_prediction_is_dropped(store: LocalStore) -> None:
    def broken(shard: Shard, view: int) -> np.ndarray:
        logits = rising(shard, view)
        logits[[2, 12]] = np.nan
        return logits

    corpus = tiny_corpus(store, train=8, val=16, test=16, unlabelled=8)
    manifest = select(Context(store), corpus, [tiny_labels(corpus, "a", broken)], section()).manifest
    assert [key for key, weight in read_sample_weights(store, manifest).items() if weight == 0] == ["train-0012"]
    assert manifest.facts["dropped_by_rule"] == {"no_teacher": 1}


def test_classes_of_the_pool_stand_beside_the_prior(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    facts = select(Context(store), corpus, [tiny_labels(corpus, "a", rising)], section()).manifest.facts
    assert facts["pool_by_class"] == {"class-0": 3, "class-1": 2, "class-2": 3}
    assert sum(facts["labelled_by_class"].values()) == 8
    assert facts["prior_by_class"]["class-0"] == facts["labelled_by_class"]["class-0"] / 8
    assert sum(facts["mass_by_class"].values()) == pytest.approx(1, abs=2e-4)


def test_aligned_pool_has_the_mass_of_the_prior(shared: Taught) -> None:
    plain, aligned = (
        select(
            Context(shared.store), shared.corpus, shared.labels, section(align=bound, calibrate=False)
        ).manifest.facts
        for bound in (None, 20.0)
    )
    assert aligned["mass_by_class"] == pytest.approx(aligned["prior_by_class"], abs=2e-3)
    assert plain["mass_by_class"] != pytest.approx(plain["prior_by_class"], abs=2e-2)
    assert aligned["pool_weight"]["sum"] == pytest.approx(40, abs=0.2)


def test_random_views_are_averaged_with_the_plain_one(store: LocalStore) -> None:
    def wavering(shard: Shard, view: int) -> np.ndarray:
        chances = np.array([[0.9, 0.05, 0.05], [0.5, 0.25, 0.25], [0.4, 0.3, 0.3]])[view]
        return np.tile(np.log(chances), (len(shard), 1)).astype(np.float32)

    corpus = tiny_corpus(store, val=0)
    labels = tiny_labels(corpus, "a", wavering, views=2)
    dropped = [
        select(Context(store), corpus, [labels], section(views=views, min_confidence=least)).manifest.facts["dropped"]
        for views, least in ((0, 0.89), (1, 0.69), (1, 0.71), (2, 0.59), (2, 0.61))
    ]
    assert dropped == [0, 0, 8, 0, 8]


def test_view_in_which_a_row_is_not_valid_is_left_out_of_its_mean(store: LocalStore) -> None:
    def broken(shard: Shard, view: int) -> np.ndarray:
        logits = np.tile(np.log(np.array([0.9, 0.05, 0.05])), (len(shard), 1))
        logits[0] = np.nan if view == 1 else logits[0]
        return logits.astype(np.float32)

    corpus = tiny_corpus(store, val=0, train=0)
    labels = tiny_labels(corpus, "a", broken, views=1)
    facts = select(Context(store), corpus, [labels], section(views=1, min_confidence=0.89)).manifest.facts
    assert facts["dropped"] == 0


def test_more_views_than_stored_are_refused(shared: Taught) -> None:
    with pytest.raises(UsageError, match=r"select\.views is 3, but teacher a has 1 random views"):
        select(Context(shared.store), shared.corpus, shared.labels, section(views=3))


def test_views_of_validation_images_are_asked_for(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", rising, views=2, val_views=1)
    with pytest.raises(UsageError, match=r"views is 2, but teacher a has 1 random views of validation images: label"):
        select(Context(store), corpus, [labels], section(views=2))


def test_calibration_is_of_the_average_over_views(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", rising, views=2, val_views=2)
    plain, averaged = (
        select(Context(store), corpus, [labels], section(views=views)).manifest.facts["calibration"]["a"]
        for views in (0, 2)
    )
    assert "views" not in plain
    assert averaged["views"] == 3


def test_mixed_views_show_no_single_image(store: LocalStore) -> None:
    def partner(shard: Shard, view: int) -> np.ndarray | None:
        return np.arange(len(shard), dtype=np.int32)[::-1].copy() if view else None

    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", rising, views=1, partner=partner)
    with pytest.raises(UsageError, match="mixed with partners and do not show single images"):
        select(Context(store), corpus, [labels], section(views=1))
    assert select(Context(store), corpus, [labels], section()).manifest.facts["dropped"] == 0


def test_alignment_needs_a_prior(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=0, val=0)
    with pytest.raises(UsageError, match="no labelled training image to take a prior from"):
        select(Context(store), corpus, [tiny_labels(corpus, "a", rising)], section(align=2.0))


def test_multilabel_corpora_are_weighed(store: LocalStore) -> None:
    own = taught(store, task="multilabel")
    manifest = select(
        Context(store), own.corpus, own.labels, section(quantile=0.5, align=20.0, calibrate=False)
    ).manifest
    facts = manifest.facts
    assert 0 < facts["dropped"] < 40
    assert set(facts["pool_by_class"]) == {"class-0", "class-1", "class-2", "none"}
    assert facts["mass_by_class"] == pytest.approx(facts["prior_by_class"], abs=2e-3)


sections = st.fixed_dictionaries(
    {"hardest": st.just(0), "label_errors": st.just(0)},
    optional={
        "views": st.integers(0, 1),
        "min_confidence": st.floats(0, 1),
        "agreement": st.floats(0, 1),
        "quantile": st.floats(0.01, 1),
        "cap": st.integers(1, 50),
        "align": st.floats(1.1, 20),
        "preset": st.sampled_from(["keep", "dr", "endoscopy"]),
    },
)


@settings(max_examples=25)
@given(sections)
def test_labelled_samples_weigh_one_and_others_never_less_than_nothing(
    shared: Taught, asked: dict[str, object]
) -> None:
    manifest = select(Context(shared.store), shared.corpus, shared.labels, section(**asked)).manifest
    weights = read_sample_weights(shared.store, manifest)
    assert set(weights) == {f"train-{n:04d}" for n in range(64)}
    assert all(weights[f"train-{n:04d}"] == 1 for n in range(24))
    assert min(weights.values()) >= 0


@pytest.mark.parametrize("asked", [{"preset": "endoscopy", "cap": 7}, {"balance": 11, "agreement": 1.0}])
def test_weights_do_not_depend_on_how_images_are_sharded(
    shared: Taught, store: LocalStore, asked: dict[str, object]
) -> None:
    other = taught(store, shard_size=7)
    own, again = (
        read_sample_weights(t.store, select(Context(t.store), t.corpus, t.labels, section(**asked)).manifest)
        for t in (shared, other)
    )
    assert len(set(own.values())) > 2
    assert again == pytest.approx(own, abs=1e-3)


def test_second_call_makes_nothing_and_equal_work_gives_equal_outputs(tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        own = taught(LocalStore(tmp_path / name))
        first = select(Context(own.store), own.corpus, own.labels, section(preset="dr"))
        assert not first.cached
        assert select(Context(own.store), own.corpus, own.labels, section(quantile=0.8, align=3.0)).cached
        outputs.append(first.manifest.outputs)
    assert outputs[0] == outputs[1]


def test_lost_thumbnail_is_made_again(store: LocalStore) -> None:
    own = taught(store)
    manifest = select(Context(store), own.corpus, own.labels, section(hardest=3)).manifest
    lost = manifest.outputs_where(kind="thumbnail")[0].name
    store.delete(lost)
    assert select(Context(store), own.corpus, own.labels, section(hardest=3)).manifest == manifest
    assert store.exists(lost)


def test_lists_do_not_change_the_weights_that_students_learn_from(shared: Taught) -> None:
    ids = {
        select(Context(shared.store), shared.corpus, shared.labels, section(hardest=count))
        .manifest.output(kind="weights")
        .id
        for count in (1, 2)
    }
    assert len(ids) == 1


def test_damaged_weights_are_named(store: LocalStore) -> None:
    own = taught(store)
    manifest = select(Context(store), own.corpus, own.labels, section(hardest=0)).manifest
    name = manifest.output(kind="weights").name
    data = bytearray(store.get(name))
    data[len(data) // 2] ^= 1
    store.put(name, bytes(data))
    with pytest.raises(CorruptError, match=name):
        read_sample_weights(store, manifest)


def test_damaged_soft_labels_are_named(store: LocalStore) -> None:
    own = taught(store)
    name = own.labels[1].output(shard=1, view=0).name
    store.put(name, store.get(name)[:-1])
    with pytest.raises(CorruptError, match=name):
        select(Context(store), own.corpus, own.labels, section())


def test_select_without_labels(shared: Taught) -> None:
    with pytest.raises(UsageError, match="soft labels of at least one teacher"):
        select(Context(shared.store), shared.corpus, [], section())


def test_corpus_without_training_images(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=0, unlabelled=0)
    with pytest.raises(UsageError, match="no training samples to weigh"):
        select(Context(store), corpus, [tiny_labels(corpus, "a", by_key(0))], section())
