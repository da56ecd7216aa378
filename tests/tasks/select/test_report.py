"""Lists for annotators, and the summary of a selection."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from infra.errors import CorruptError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Shard
from tasks.pipeline.context import Context
from tasks.select import select
from tasks.select.ranking import hardest
from tasks.select.report import SIDE, summary_text, thumbnail
from tests.tasks.select.conftest import Taught, taught
from tests.tasks.select.pools import pool_of, section, sure
from tests.tiny import tiny_corpus, tiny_labels


def listed(store: LocalStore, manifest: Manifest, kind: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(store.get(manifest.output(kind=kind).name).decode())))


def logits_of(rows: list[list[float]]) -> Callable[[Shard, int], np.ndarray]:
    """The same chances for every shard, cut or filled up with certainty of the first class."""

    def logits(shard: Shard, view: int) -> np.ndarray:
        found = np.tile(np.array([[0.98, 0.01, 0.01]]), (len(shard), 1))
        found[: len(rows)] = rows[: len(shard)]
        return np.log(found).astype(np.float32)

    return logits


def test_entropy_and_disagreement_choose_in_turn() -> None:
    one = sure((0, 0.9), (0, 0.4), (0, 0.95), (0, 0.5))
    two = sure((0, 0.9), (0, 0.4), (1, 0.95), (1, 0.6))
    # Image 1 is hard for both teachers; they differ about 2 most, then about 3; 0 is easy.
    assert hardest(pool_of(one, two), 4) == [1, 2, 3, 0]
    assert hardest(pool_of(one, two), 2) == [1, 2]


def test_entropy_alone_chooses_where_there_is_one_teacher() -> None:
    assert hardest(pool_of(sure((0, 0.9), (0, 0.5), (0, 0.7))), 2) == [1, 2]


def test_image_without_a_valid_prediction_is_not_listed() -> None:
    nan = float("nan")
    assert hardest(pool_of([[nan] * 3, [0.5, 0.3, 0.2]]), 5) == [1]


def test_list_of_the_hardest_says_why_and_where(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=0, unlabelled=3, val=4)
    one = tiny_labels(corpus, "a", logits_of([*sure((0, 0.9), (0, 0.8)), [0.3, 0.2, 0.5]]))
    two = tiny_labels(corpus, "b", logits_of([*sure((0, 0.9), (1, 0.8)), [0.3, 0.2, 0.5]]))
    manifest = select(Context(store), corpus, [one, two], section(calibrate=False, hardest=2)).manifest
    rows = listed(store, manifest, "hardest")
    assert list(rows[0]) == [
        *("rank", "key", "entropy", "disagreement", "confidence", "top", "shard", "row", "thumbnail")
    ]
    assert [(row["rank"], row["key"], row["row"]) for row in rows] == [
        ("1", "train-0002", "2"),
        ("2", "train-0001", "1"),
    ]
    assert rows[0]["top"] == "class-2 0.5000; class-0 0.3000; class-1 0.2000"
    assert float(rows[0]["entropy"]) == pytest.approx(1.0297, abs=1e-3)
    assert (rows[0]["disagreement"], rows[0]["confidence"]) == ("0.0000", "0.5000")
    # The mean of two teachers is (0.45, 0.45, 0.1); each alone has the entropy of (0.8, 0.1, 0.1).
    mean, own = -2 * 0.45 * np.log(0.45) - 0.1 * np.log(0.1), -0.8 * np.log(0.8) - 0.2 * np.log(0.1)
    assert float(rows[1]["disagreement"]) == pytest.approx(mean - own, abs=1e-3)
    assert rows[0]["shard"] == corpus.shards[0].output.name
    assert manifest.facts["hardest"] == 2


def test_every_thumbnail_lies_beside_its_list(shared: Taught) -> None:
    manifest = select(Context(shared.store), shared.corpus, shared.labels, section(hardest=5)).manifest
    for kind in ("hardest", "label-errors"):
        folder = manifest.output(kind=kind).name.rpartition("/")[0]
        for row in listed(shared.store, manifest, kind):
            data = shared.store.get(f"{folder}/{row['thumbnail']}")
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert image.shape == (40, 40, 3)
    promised = {output.name for output in manifest.outputs}
    assert promised == set(shared.store.sizes("annotate/tiny/thumbnails/")) & promised | {
        manifest.output(kind=kind).name for kind in ("weights", "hardest", "label-errors")
    }


def test_thumbnails_are_small_and_keep_their_shape() -> None:
    image = np.zeros((300, 600, 3), np.uint8)
    image[..., 0] = 250
    small = cv2.imdecode(np.frombuffer(thumbnail(image), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (SIDE // 2, SIDE, 3)
    # OpenCV reads blue first: the picture is still red.
    assert small[..., 2].mean() > 240
    assert small[..., 0].mean() < 10


def swapped(shard: Shard, view: int) -> np.ndarray:
    """Sure of each label, but of the next class in row 3."""
    named = np.maximum(shard.label, 0)
    named[3] = (named[3] + 1) % 3
    return (np.eye(3)[named] * 4).astype(np.float32)


def test_wrong_label_is_found_by_teachers_that_did_not_learn_it(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=16, unlabelled=8, val=0, test=0)
    labels = tiny_labels(corpus, "a", swapped).model_copy(update={"facts": {"folds": 3}})
    manifest = select(Context(store), corpus, [labels], section()).manifest
    (row,) = listed(store, manifest, "label-errors")
    shard = corpus.shards[0]
    given, other = (corpus.classes[(shard.label[3] + n) % 3] for n in (0, 1))
    assert (row["key"], row["given"], row["suggested"]) == (shard.keys[3], given, other)
    likely = np.exp(4) / (np.exp(4) + 2)
    assert float(row["margin"]) == pytest.approx(likely - (1 - likely) / 2, abs=1e-3)
    assert row["top"].startswith(f"{other} {likely:.4f}")
    assert (manifest.facts["label_errors"], manifest.facts["judges"]) == (1, ["a"])


def test_teacher_that_learned_the_labels_checks_none(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=16, unlabelled=8)
    facts = select(Context(store), corpus, [tiny_labels(corpus, "a", swapped)], section()).manifest.facts
    assert "label_errors" not in facts
    assert "fold teachers" in facts["no_label_errors"]


def test_only_out_of_fold_teachers_count(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=16, unlabelled=8, val=0)
    judge = tiny_labels(corpus, "a", swapped).model_copy(update={"facts": {"folds": 2}})
    sure_of_labels = tiny_labels(
        corpus, "b", lambda shard, view: (np.eye(3)[np.maximum(shard.label, 0)] * 20).astype(np.float32)
    )
    assert select(Context(store), corpus, [judge, sure_of_labels], section()).manifest.facts["label_errors"] == 1


def test_images_without_a_valid_out_of_fold_prediction_are_not_listed(store: LocalStore) -> None:
    def silent(shard: Shard, view: int) -> np.ndarray:
        logits = swapped(shard, view)
        logits[3] = np.nan
        return logits

    corpus = tiny_corpus(store, train=16, unlabelled=8, val=0)
    labels = tiny_labels(corpus, "a", silent).model_copy(update={"facts": {"folds": 3}})
    manifest = select(Context(store), corpus, [labels], section()).manifest
    assert manifest.facts["label_errors"] == 0
    assert manifest.outputs_where(kind="label-errors") == []


def test_wrong_labels_of_many_are_listed_by_class(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="multilabel", train=16, unlabelled=4, val=0, test=0)

    def judge(shard: Shard, view: int) -> np.ndarray:
        assert shard.labels is not None
        logits = np.where(shard.labels == 1, 3.0, -3.0)
        logits[0, 1] *= -1
        return logits.astype(np.float32)

    labels = tiny_labels(corpus, "a", judge).model_copy(update={"facts": {"folds": 3}})
    rows = listed(store, select(Context(store), corpus, [labels], section()).manifest, "label-errors")
    was = corpus.shards[0].labels[0, 1]  # type: ignore[index]
    names = ("class-1", "not class-1") if was else ("not class-1", "class-1")
    assert [(row["key"], row["given"], row["suggested"]) for row in rows] == [("train-0000", *names)]


def test_lists_can_be_switched_off(shared: Taught) -> None:
    manifest = select(Context(shared.store), shared.corpus, shared.labels, section(hardest=0, label_errors=0)).manifest
    assert [output.meta["kind"] for output in manifest.outputs] == ["weights"]
    assert (manifest.facts["hardest"], manifest.facts["no_label_errors"]) == (0, "select.label_errors is 0")


def test_damaged_image_of_a_list_is_named(store: LocalStore) -> None:
    own = taught(store, train=4, unlabelled=1)
    shard = own.corpus.shards[0]
    data = bytearray(store.get(shard.output.name))
    data[int(shard.offsets[4]) + 40] ^= 1
    store.put(shard.output.name, bytes(data))
    with pytest.raises(CorruptError, match=f"{shard.output.name}: bytes of train-0004"):
        select(Context(store), own.corpus, own.labels, section())


def unsure(shard: Shard, view: int) -> np.ndarray:
    rows = np.arange(len(shard))
    return (np.eye(3)[rows % 3] * rows[:, None] * 0.2).astype(np.float32)


def test_the_summary_says_what_was_dropped_and_where_the_lists_are(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    manifest = select(Context(store), corpus, [tiny_labels(corpus, "a", unsure)], section(min_confidence=0.8)).manifest
    text = summary_text(manifest)
    assert f"{manifest.facts['kept']} training images kept, {manifest.facts['dropped']} dropped" in text
    assert f"| min_confidence | {manifest.facts['dropped']} |" in text
    assert f"`{manifest.output(kind='hardest').name}`" in text
    assert "no list of label errors: " in text
    assert f"| a | {manifest.facts['temperatures']['a']:.3f} |" in text


def test_the_summary_names_no_image(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    text = summary_text(select(Context(store), corpus, [tiny_labels(corpus, "a", unsure)], section()).manifest)
    assert not [key for shard in corpus.shards for key in shard.keys if key in text]
    assert "![" not in text
