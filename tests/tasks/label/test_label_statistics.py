"""Statistics of stored soft labels, against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log

import numpy as np
import pytest

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.draws import NO_PARTNER
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import entropy, read_soft_labels, write_soft_labels
from tasks.label.label_statistics import (
    LABELLED,
    MOST_UNCERTAIN,
    POOL,
    RIGHT,
    WRONG,
    accuracy,
    balanced,
    kappa,
    label_statistics,
)
from tests.tiny import tiny_corpus, tiny_labels

Logits = Callable[[Shard, int], np.ndarray]


def saying(classes: Callable[[Shard], np.ndarray], odds: float = 4.0) -> Logits:
    """Sure of one class a row: its odds against each other class."""

    def logits(shard: Shard, view: int) -> np.ndarray:
        return (np.eye(3)[classes(shard)] * log(odds)).astype(np.float32)

    return logits


def always(number: int) -> Logits:
    return saying(lambda shard: np.full(len(shard), number))


def right_but(wrong: int) -> Logits:
    """The label, but for the first rows of each shard; class 0 where there is none."""
    return saying(lambda shard: (np.maximum(shard.label, 0) + (np.arange(len(shard)) < wrong)) % 3)


def test_teachers_are_compared(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8, val=4, test=4)
    even = saying(lambda shard: np.arange(len(shard)) % 2)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", always(0)), tiny_labels(corpus, "b", even)])
    (tables,) = found.agreement.values()
    assert tables.tolist() == [[[12, 12, 0], [0, 0, 0], [0, 0, 0]]]
    assert accuracy(tables) == 0.5
    assert kappa(tables) == 0.0


def test_kappa_is_cohens() -> None:
    # Observed 0.7, by chance 0.5: (0.7 - 0.5) / (1 - 0.5).
    assert kappa(np.array([[[20, 5], [10, 15]]])) == pytest.approx(0.4)
    assert kappa(np.array([[[20, 5], [10, 15]], [[9, 0], [0, 9]]])) == pytest.approx(0.7)
    assert kappa(np.array([[[9, 0], [0, 0]]])) is None


def test_balanced_accuracy_leaves_absent_classes_out() -> None:
    tables = np.array([[[3, 1, 0], [0, 0, 0], [2, 0, 2]]])
    assert balanced(tables) == pytest.approx((0.75 + 0.5) / 2)
    assert accuracy(tables) == pytest.approx(5 / 8)
    assert accuracy(np.zeros((1, 3, 3), np.int64)) is None


def test_teachers_and_their_mean_are_evaluated_on_validation(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=8)
    weak, strong = right_but(3), saying(lambda shard: np.maximum(shard.label, 0), odds=100.0)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", weak), tiny_labels(corpus, "b", strong)])
    assert [accuracy(tables) for tables in found.val] == [5 / 8, 1.0, 1.0]
    assert found.val_images.tolist() == [8, 8, 8]
    truth = corpus.of_split("val")[0].label
    assert found.val[0].sum(axis=2).tolist() == [np.bincount(truth, minlength=3).tolist()]


def test_rows_that_are_not_valid_count_nowhere(store: LocalStore) -> None:
    def broken(shard: Shard, view: int) -> np.ndarray:
        logits = right_but(0)(shard, view)
        logits[:2] = np.nan
        return logits

    corpus = tiny_corpus(store, train=8, unlabelled=8, val=8, test=4, shard_size=8)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", right_but(0)), tiny_labels(corpus, "b", broken)])
    assert found.val_images.tolist() == [8, 6, 6]
    assert found.agreement[0, 1].sum() == 6 + 6 + 6 + 2
    assert (found.pool, found.pool_valid) == (8, 6)
    assert found.confidence.sum(axis=1).tolist() == [6, 6, 6, 0]


def test_pool_is_counted_softly_and_by_top_class(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=9, unlabelled=7)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", always(1))])
    # Odds of 4 against each of two others: 4/6, 1/6, 1/6.
    assert found.mass == pytest.approx(7 * np.array([1, 4, 1]) / 6, abs=1e-3)
    assert found.top.tolist() == [0, 7, 0]
    labels = corpus.of_split("train")[0].label
    assert found.prior.tolist() == np.bincount(labels[labels >= 0], minlength=3).tolist()
    assert found.known.tolist() == [9, 9, 9]


def test_confidence_falls_into_bins_by_what_is_known(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=9, unlabelled=7, val=8)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", right_but(2))])
    # Every row is sure by 4/6, which lies between 13/20 and 14/20.
    assert np.flatnonzero(found.confidence.any(axis=0)).tolist() == [13]
    counted = found.confidence[:, 13]
    assert counted[[LABELLED, POOL, RIGHT, WRONG]].tolist() == [9, 7, 6, 2]


def test_certainty_itself_has_a_bin(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=8)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", lambda shard, view: 1e4 * right_but(0)(shard, view))])
    assert found.confidence[RIGHT, -1] == 8


def test_most_uncertain_training_images_come_first(store: LocalStore) -> None:
    def rising(shard: Shard, view: int) -> np.ndarray:
        """Surer with the number in the key; numbers 10 and 11 are as unsure as can be."""
        number = np.array([int(key.rpartition("-")[2]) for key in shard.keys])
        sure = np.where((number == 10) | (number == 11), 0.0, 0.1 + number / 10)
        return (np.eye(3)[0] * sure[:, None]).astype(np.float32)

    corpus = tiny_corpus(store, train=20, unlabelled=20, shard_size=7)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", rising)]).uncertain
    expected = [10, 11, *(n for n in range(40) if n not in (10, 11))][:MOST_UNCERTAIN]
    assert [image.key for image in found] == [f"train-{n:04d}" for n in expected]
    assert found[0].entropy == pytest.approx(log(3), abs=1e-6)
    assert all(image.shard.keys[image.row] == image.key for image in found)


def test_entropy_of_probabilities() -> None:
    assert entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), many=False) == pytest.approx([log(2), 0.0])
    # One label is a coin, the other certain: the mean is half a coin.
    assert entropy(np.array([[0.5, 1.0]]), many=True) == pytest.approx([log(2) / 2])


def turning(shard: Shard, view: int) -> np.ndarray:
    """View v takes the first v rows for the next class."""
    return right_but(view)(shard, view)


def test_random_views_of_one_teacher_are_compared_with_the_plain_one(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=16, unlabelled=0)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", turning, views=2)])
    assert {view: pair.tolist() for view, pair in found.views.items()} == {1: [15, 16], 2: [14, 16]}
    two = label_statistics(corpus, [tiny_labels(corpus, name, turning, views=2) for name in ("a", "b")])
    assert two.views == {}


def mixed(store: LocalStore, labels: Manifest, alone: int) -> Manifest:
    """The labels with random views mixed but for some rows at the end of each shard."""
    outputs = []
    for output in labels.outputs:
        soft = read_soft_labels(store.get(output.name))
        rows = np.arange(len(soft.valid), dtype=np.int32)
        partner = np.where(rows < len(rows) - alone, rows[::-1], NO_PARTNER).astype(np.int32)
        data = write_soft_labels(replace(soft, partner=partner if output.meta["view"] else None))
        outputs.append(StageCache(store).put_object(f"{output.name}.mixed", data, meta=output.meta))
    return labels.model_copy(update={"outputs": outputs})


def test_mixed_rows_are_not_compared(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=16, unlabelled=0)
    labels = tiny_labels(corpus, "a", turning, views=1)
    assert label_statistics(corpus, [mixed(store, labels, 4)]).views[1].tolist() == [4, 4]
    assert label_statistics(corpus, [mixed(store, labels, 0)]).views[1].tolist() == [0, 0]


def multilabel(corpus: Corpus) -> Logits:
    """The labels by odds of 4 to 1, but every first label of a shard's first row wrong; no in the pool."""

    def logits(shard: Shard, view: int) -> np.ndarray:
        assert shard.labels is not None
        said = np.where(shard.labels == 1, log(4.0), -log(4.0))
        said[0, 0] *= -1
        return said.astype(np.float32)

    return logits


def test_labels_of_a_multilabel_corpus_are_decided_each(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="multilabel", train=10, unlabelled=6, val=8, test=4)
    found = label_statistics(corpus, [tiny_labels(corpus, "a", multilabel(corpus))])
    assert found.val.shape == (1, 3, 2, 2)
    assert accuracy(found.val[0]) == pytest.approx(23 / 24)
    assert found.val_images.tolist() == [8]
    # Sure by 4/5 of each decision, right or wrong: the bin that begins there, or float16's step below it.
    assert found.confidence[:, 15:17].sum(axis=1).tolist() == [30, 18, 23, 1]
    train = corpus.of_split("train")[0].labels
    assert train is not None
    assert found.prior.tolist() == (train == 1).sum(axis=0).tolist()
    assert found.top.tolist() == [0, 0, 0]
    assert found.mass == pytest.approx([6 / 5] * 3, abs=1e-3)
