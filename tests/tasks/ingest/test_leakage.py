"""Equal files that contradict each other, and leaks between splits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.data.catalog import SPLITS
from tasks.ingest.image_table import ImageTable
from tasks.ingest.leakage import Leaks, mark_leaks, refuse_contradictions
from tests.tasks.ingest.image_tables import Image, table_of


def placed(*rows: Image) -> ImageTable:
    """A table whose images lie in the splits that they name."""
    images = table_of(rows)
    images.numbers("split")[:] = [SPLITS.index(i.split) for i in rows]
    return images


def refused(images: ImageTable) -> dict[str, str]:
    return {
        key: reason
        for key, reason in images.first_rows(("key", "reason"), len(images), images.where("status", "quarantined"))
    }


def test_equal_files_with_different_labels_are_all_refused() -> None:
    images = table_of([Image("a", "1", 0, sha="s"), Image("b", "2", 1, sha="s"), Image("c", "3", 1)])
    refuse_contradictions(images)
    assert refused(images) == {
        "a": "the same bytes as b.png, but labelled differently",
        "b": "the same bytes as a.png, but labelled differently",
    }


def test_a_reason_counts_the_others() -> None:
    images = table_of([Image(key, key, n % 2, sha="s") for n, key in enumerate("abcd")])
    refuse_contradictions(images)
    assert refused(images)["c"] == "the same bytes as a.png and 2 more, but labelled differently"


def test_equal_files_with_one_label_stay() -> None:
    images = table_of([Image("a", "1", 1, sha="s"), Image("b", "2", 1, sha="s"), Image("c", "3", -1, sha="s")])
    refuse_contradictions(images)
    assert refused(images) == {}


def test_labels_of_several_classes_contradict_when_one_differs() -> None:
    images = table_of([Image("a", sha="s"), Image("b", sha="s"), Image("c", sha="t"), Image("d", sha="t")])
    images.labels = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], np.int8)
    refuse_contradictions(images)
    assert sorted(refused(images)) == ["a", "b"]


def test_a_patient_in_train_and_test_is_a_leak() -> None:
    images = placed(Image("a", "1", 0, "train"), Image("b", "1", 0, "test"), Image("c", "2", 0, "val"))
    assert mark_leaks(images) == Leaks(1, 1, 0, 0)
    assert images.numbers("leak").tolist() == [False, True, False]


def test_equal_bytes_in_train_and_test_are_a_leak() -> None:
    images = placed(Image("a", "1", 0, "train", sha="s"), Image("b", "2", 0, "test", sha="s"))
    assert mark_leaks(images) == Leaks(1, 0, 1, 0)


def test_images_without_a_patient_share_none() -> None:
    assert mark_leaks(placed(Image("a", "", 0, "train"), Image("b", "", 0, "test"))).images == 0


def hashes(**bits: int) -> pa.Table:
    """Key to a hash of 256 bits of which so many are set."""
    rows = [np.packbits(np.arange(256) < n).tobytes() for n in bits.values()]
    return pa.table({"key": list(bits), "phash": pa.array(rows, pa.binary())})


def test_a_near_twin_in_train_is_a_leak() -> None:
    images = placed(Image("a", "1", 0, "train"), Image("b", "2", 0, "test"), Image("c", "3", 0, "val"))
    assert mark_leaks(images, hashes(a=100, b=120, c=79), limit=20) == Leaks(1, 0, 0, 1)
    assert images.numbers("leak").tolist() == [False, True, False]


def test_near_twins_within_a_split_or_between_val_and_test_are_none() -> None:
    images = placed(
        Image("a", "1", 0, "train"), Image("b", "2", 0, "train"), Image("c", "3", 0, "val"), Image("d", "4", 0, "test")
    )
    assert mark_leaks(images, hashes(a=0, b=0, c=200, d=200)).images == 0


def test_what_is_refused_leaks_nothing() -> None:
    images = placed(Image("a", "1", 0, "train", sha="s"), Image("b", "1", 0, "test", sha="s"))
    images.quarantine(np.array([True, False]), "why")
    assert mark_leaks(images, hashes(a=0, b=0)).images == 0
