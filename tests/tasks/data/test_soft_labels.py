"""The soft-label file, and reading files by shard and view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from infra.errors import CorruptError, UsageError
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.statistics.ordinal import cumulative_logits
from tasks.data.corpus import Shard
from tasks.data.soft_labels import (
    SoftLabelReader,
    mean_logits,
    read_soft_labels,
    sigmoid,
    softmax,
    to_soft_labels,
    write_soft_labels,
)
from tests.tiny import tiny_corpus, tiny_labels


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70000.0])
def test_row_that_float16_cannot_hold_is_not_valid(bad: float) -> None:
    logits = np.ones((3, 4), np.float32)
    logits[1, 2] = bad
    soft = read_soft_labels(write_soft_labels(to_soft_labels(logits)))
    assert soft.valid.tolist() == [True, False, True]
    assert soft.invalid == 1
    assert np.isfinite(soft.logits).all()


def test_logits_survive_to_half_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (20, 7)).astype(np.float32)
    soft = read_soft_labels(write_soft_labels(to_soft_labels(logits)))
    assert soft.logits.dtype == np.float32
    assert np.abs(soft.logits - logits).max() < 0.01


def test_equal_logits_give_equal_bytes() -> None:
    logits = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert write_soft_labels(to_soft_labels(logits)) == write_soft_labels(to_soft_labels(logits.copy()))


def test_truncated_file_is_named() -> None:
    data = write_soft_labels(to_soft_labels(np.ones((3, 4), np.float32)))
    with pytest.raises(CorruptError, match="view-1: not a soft-label file"):
        read_soft_labels(data[:-1], "view-1")


def test_other_tensors_are_refused() -> None:
    data = save({"logits": np.ones((3, 4), np.float32), "valid": np.ones(3, bool)})
    with pytest.raises(CorruptError, match=r"logits float32 \[3, 4\], valid bool \[3\] are not"):
        read_soft_labels(data)


def numbered(shard: Shard, view: int) -> np.ndarray:
    return np.arange(len(shard) * 3, dtype=np.float32).reshape(-1, 3) + 100 * view


def flat(shard: Shard, view: int) -> np.ndarray:
    return np.zeros((len(shard), 3), np.float32)


def test_teachers_stand_in_manifest_order(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    reader = SoftLabelReader(
        corpus, [tiny_labels(corpus, "a", numbered, views=1), tiny_labels(corpus, "b", flat, views=1)]
    )
    logits = reader.logits(1, 1)
    assert reader.teachers == ["a", "b"]
    assert logits.shape == (2, 16, 3)
    assert logits[0, 2].tolist() == [106, 107, 108]
    assert not logits[1].any()


def test_row_counts_when_every_teacher_is_valid(store: LocalStore) -> None:
    def broken(shard: Shard, view: int) -> np.ndarray:
        logits = flat(shard, view)
        logits[3] = np.nan
        return logits

    corpus = tiny_corpus(store)
    rows = SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat), tiny_labels(corpus, "b", broken)]).rows(0, 0)
    assert np.flatnonzero(~rows.valid).tolist() == [3]


def test_probabilities_average_teachers_at_their_temperatures(store: LocalStore) -> None:
    def sure(shard: Shard, view: int) -> np.ndarray:
        return np.tile(np.log(np.array([4.0, 1.0, 1.0], np.float32)) * 2, (len(shard), 1))

    corpus = tiny_corpus(store)
    reader = SoftLabelReader(corpus, [tiny_labels(corpus, "a", sure), tiny_labels(corpus, "b", flat)])
    found = reader.probabilities(0, 0, {"a": 2.0})
    expected = (np.array([4, 1, 1]) / 6 + 1 / 3) / 2
    assert np.allclose(found, expected, atol=1e-3)


def test_multilabel_probabilities_are_sigmoids(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="multilabel")
    assert np.allclose(SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat)]).probabilities(0, 0), 0.5)


def test_view_that_was_not_labelled(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    reader = SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat, views=1)])
    with pytest.raises(UsageError, match="teacher a has no soft labels of view 2 of shard 0"):
        reader.logits(0, 2)


def test_damaged_file_is_named(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", flat)
    output = labels.output(shard=0, view=0)
    data = store.get(output.name)
    store.put(output.name, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptError, match=output.name):
        SoftLabelReader(corpus, [labels]).logits(0, 0)


def test_file_of_another_shard_is_refused(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", lambda shard, view: np.zeros((len(shard) + 1, 3), np.float32))
    with pytest.raises(CorruptError, match="17 rows for the 16 images of shard 0"):
        SoftLabelReader(corpus, [labels]).logits(0, 0)


def test_memory_is_bounded_in_bytes(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", flat, views=1)
    one = SoftLabelReader(corpus, [labels]).rows(0, 0).nbytes
    reader = SoftLabelReader(corpus, [labels], max_bytes=2 * one)
    first, second = reader.rows(0, 0), reader.rows(0, 1)
    assert reader.rows(0, 0) is first
    reader.rows(1, 0)
    assert reader.rows(0, 0) is first
    assert reader.rows(0, 1) is not second


def test_what_was_read_last_stays_however_little_memory_there_is(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    reader = SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat)], max_bytes=1)
    first = reader.rows(0, 0)
    assert reader.rows(0, 0) is first
    reader.rows(1, 0)
    assert reader.rows(0, 0) is not first


def test_features_are_read_once_and_counted(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "a", flat)
    output = labels.output(shard=0, view=0)
    features = np.arange(32, dtype=np.float32).reshape(16, 2)
    rich = StageCache(store).put_object(
        "labels/{sha8}.safetensors",
        write_soft_labels(to_soft_labels(flat(corpus.shards[0], 0), features=features)),
        id=output.id,
        unit=output.id,
        meta=dict(output.meta),
    )
    reader = SoftLabelReader(corpus, [labels.model_copy(update={"outputs": [rich]})])
    bare = reader.rows(0, 0)
    found = reader.rows(0, 0, features=(0,))
    assert (bare.features, found.nbytes - bare.nbytes) == ({}, 16 * 2 * 2)
    store.delete(rich.name)
    assert reader.rows(0, 0) is found
    assert np.array_equal(reader.features(0, 0, 0), features)


def test_a_reader_needs_a_teacher(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="at least one teacher"):
        SoftLabelReader(tiny_corpus(store), [])


VIEWS = [
    (np.random.default_rng(view).normal(0, 4, (2, 5, 3)).astype(np.float32), np.ones(5, bool)) for view in range(4)
]
"""Four views of five images by two teachers."""


def test_the_mean_over_views_is_that_of_softmax() -> None:
    expected = np.mean([softmax(logits.astype(np.float64)) for logits, _ in VIEWS], axis=0)
    np.testing.assert_allclose(softmax(mean_logits(VIEWS, many=False)), expected, rtol=1e-5)


def test_the_mean_over_views_is_that_of_sigmoid_for_many_labels() -> None:
    expected = np.mean([sigmoid(logits.astype(np.float64)) for logits, _ in VIEWS], axis=0)
    np.testing.assert_allclose(sigmoid(mean_logits(VIEWS, many=True).astype(np.float64)), expected, rtol=1e-5)


def test_the_mean_over_views_is_that_of_cumulative_probabilities_of_grades() -> None:
    def worse(logits: np.ndarray) -> np.ndarray:
        return cumulative_logits(torch.from_numpy(logits.astype(np.float64))).sigmoid().numpy()

    expected = np.mean([worse(logits) for logits, _ in VIEWS], axis=0)
    np.testing.assert_allclose(worse(mean_logits(VIEWS, many=False)), expected, rtol=1e-5)


@pytest.mark.parametrize("many", [True, False])
def test_the_mean_leaves_views_out_in_which_a_row_is_not_valid(many: bool) -> None:
    valid = np.array([True, True, True, True, False])
    never = [(logits, valid & (np.arange(5) != view)) for view, (logits, _) in enumerate(VIEWS)]
    found = mean_logits(never, many=many)
    assert not found[:, 4].any()
    rest = [VIEWS[view] for view in (0, 1, 3)]
    np.testing.assert_allclose(found[:, 2], mean_logits(rest, many=many)[:, 2], rtol=1e-5)


@pytest.mark.parametrize("many", [True, False])
def test_the_mean_of_extreme_logits_is_finite(many: bool) -> None:
    sure = np.array([[6e4, -6e4, 0.0]], np.float32)
    assert np.isfinite(mean_logits([(sure, np.ones(1, bool))] * 3, many=many)).all()


def test_the_mean_of_a_shard_is_over_the_plain_view_and_the_random_ones(store: LocalStore) -> None:
    def turned(shard: Shard, view: int) -> np.ndarray:
        return np.roll(numbered(shard, 0) % 7, view, axis=1)

    reader = SoftLabelReader(tiny_corpus(store), [tiny_labels(tiny_corpus(store), "a", turned, views=2)])
    expected = np.mean([softmax(reader.logits(0, view)) for view in (0, 1)], axis=0)
    np.testing.assert_allclose(softmax(reader.mean(0, 1).logits), expected, rtol=1e-5)
    assert reader.mean(0, 1) is reader.mean(0, 1)
    np.testing.assert_allclose(softmax(reader.mean(0, 2).logits), 1 / 3, rtol=1e-5)


def test_mixed_views_have_no_mean(store: LocalStore) -> None:
    def swapped(shard: Shard, view: int) -> np.ndarray | None:
        return np.arange(len(shard), dtype=np.int32)[::-1] if view else None

    corpus = tiny_corpus(store)
    reader = SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat, views=1, partner=swapped)])
    with pytest.raises(UsageError, match=r"mixed with partners.*set views.mix: none"):
        reader.mean(0, 1)
