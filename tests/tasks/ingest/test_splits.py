"""Splits of our making and of others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import CorpusError
from tasks.data.catalog import SPLITS
from tasks.ingest.image_table import ImageTable
from tasks.ingest.near_groups import NearGroups
from tasks.ingest.splits import EarlierSplits, assign_splits, check_splits
from tasks.spec import SplitSection
from tests.tasks.ingest.image_tables import Image, table_of


def assign(rows: Sequence[Image] | ImageTable, official: tuple[str, ...] = (), **rest: Any) -> dict[str, str]:
    """Key to split; "" where none was given."""
    images = rows if isinstance(rows, ImageTable) else table_of(rows)
    stored, patients, groups = rest.pop("stored", {}), rest.pop("patients", {}), rest.pop("near", None)
    places = [SPLITS.index(stored[key]) if key in stored else -1 for key in images.text("key").to_pylist()]
    before = EarlierSplits(
        np.array(places, np.int8),
        pa.array(list(patients), pa.string()),
        np.array([SPLITS.index(split) for split in patients.values()], np.int8),
    )
    assign_splits(images, SplitSection(**rest), frozenset(official), before, groups)
    names = [SPLITS[code] if code >= 0 else "" for code in images.numbers("split")]
    return dict(zip(images.text("key").to_pylist(), names, strict=True))


def pairs(patients: int, classes: int) -> list[Image]:
    return [Image(f"{p}{side}", str(p), p % classes) for p in range(patients) for side in "lr"]


def reasons(images: ImageTable) -> list[str]:
    return images.text("reason").to_pylist()


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(-1, 3)), min_size=1, max_size=40), st.integers(0, 5))
def test_a_patient_never_straddles_splits(images: list[tuple[int, int]], seed: int) -> None:
    entries = [Image(f"i{i}", f"p{p}", label) for i, (p, label) in enumerate(images)]
    found = assign(entries, seed=seed, val=0.3, test=0.3)
    splits: dict[str, set[str]] = {}
    for e in entries:
        splits.setdefault(e.patient, set()).add(found[e.key])
    assert all(len(own) == 1 for own in splits.values())
    labelled = {e.label for e in entries if e.label >= 0}
    patients_of = {label: {e.patient for e in entries if e.label == label} for label in labelled}
    rarest = min(labelled, key=lambda x: (len(patients_of[x]), x), default=None)
    assert rarest is None or any(found[e.key] == "train" and e.label == rarest for e in entries)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=40),
    st.integers(0, 5),
)
def test_equal_bytes_never_straddle_splits_of_our_making(images: list[tuple[int, int, int]], seed: int) -> None:
    entries = [Image(f"i{i}", f"p{p}", label, sha=f"s{sha}") for i, (p, sha, label) in enumerate(images)]
    found = assign(entries, seed=seed, val=0.3, test=0.3)
    for sha in {e.sha for e in entries}:
        assert len({found[e.key] for e in entries if e.sha == sha}) == 1


@given(st.permutations(range(20)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    entries = pairs(10, 2)
    expected = assign(pairs(10, 2))
    assert assign([entries[i] for i in order]) == expected


def test_the_seed_matters() -> None:
    assert assign(pairs(20, 2), seed=0) != assign(pairs(20, 2), seed=1)


def test_shares_hold_within_every_class() -> None:
    entries = pairs(100, 4)
    found = assign(entries, val=0.2, test=0.4)
    counts = Counter((e.label, found[e.key]) for e in entries)
    assert {counts[label, "test"] for label in range(4)} == {20}
    assert {counts[label, "val"] for label in range(4)} == {10}


def test_unlabelled_images_go_with_their_patient_else_to_train() -> None:
    entries = [*pairs(20, 2), *(Image(f"{p}u", str(p)) for p in range(20)), Image("stranger", "99"), Image("nobody")]
    found = assign(entries)
    assert all(found[f"{p}u"] == found[f"{p}l"] for p in range(20))
    assert (found["stranger"], found["nobody"]) == ("train", "train")


def test_new_patients_do_not_move_old_ones() -> None:
    before = assign(pairs(20, 2))
    patients = {f"patient:{key[:-1]}": split for key, split in before.items()}
    found = assign(pairs(40, 2), patients=patients)
    assert all(found[key] == split for key, split in before.items())
    assert Counter(found.values())["test"] == 16


def test_official_splits_are_taken_as_they_stand() -> None:
    entries = [Image("a", "1", 0, "train"), Image("b", "1", 0, "test"), Image("c", "2", 0, "val")]
    assert assign(entries, ("train", "val", "test")) == {"a": "train", "b": "test", "c": "val"}


def test_validation_is_carved_out_of_official_train_by_patient() -> None:
    entries = pairs(40, 2)
    entries = [e._replace(split="test" if i < 16 else "train") for i, e in enumerate(entries)]
    found = assign(entries, ("train", "test"), val=0.25)
    assert [found[e.key] for e in entries[:16]] == ["test"] * 16
    assert Counter(found.values()) == {"test": 16, "val": 16, "train": 48}
    assert all(found[f"{p}l"] == found[f"{p}r"] for p in range(40))


def test_a_patient_of_the_official_test_is_not_carved_into_validation() -> None:
    entries = [*pairs(10, 1), Image("leaky", "0", 0)]
    entries = [e._replace(split="test" if e.key == "leaky" else "train") for e in entries]
    found = assign(entries, ("train", "test"), val=0.9, test=0.0)
    assert (found["0l"], found["leaky"]) == ("train", "test")


def test_rows_in_no_list_go_by_our_splitter_when_lists_leave_room() -> None:
    entries = [*pairs(20, 2), Image("t", "t", 0, "test")]
    found = assign(entries, ("test",), val=0.5)
    assert Counter(found.values()) == {"test": 1, "val": 20, "train": 20}


def test_a_label_without_a_place_in_a_whole_official_split_is_quarantined() -> None:
    images = table_of([Image("a", "1", 0, "train"), Image("b", "2", 0)])
    assign(images, ("train", "val", "test"))
    assert reasons(images)[1] == "it has a label, but no place in the official split"


def test_a_stored_image_cannot_change_its_official_split() -> None:
    with pytest.raises(CorpusError, match=r"1 images stand in another official split .* first a\.png: test"):
        assign([Image("a", "1", 0, "test")], ("train", "test"), stored={"a": "train"})


def test_an_empty_split_is_reported_with_the_counts() -> None:
    entries = [Image("a", "1", 0, "train"), Image("b", "2", 1, "train"), Image("c", "3", 0, "val")]
    images = table_of(entries)
    assign(images, ("train", "val", "test"))
    with pytest.raises(CorpusError, match=r"no labelled image in the test split \(train: x 1, y 1; val: x 1, y 0"):
        check_splits(images, ["x", "y"], SplitSection())


def test_a_split_with_share_0_may_be_empty() -> None:
    images = table_of(pairs(10, 1))
    assign(images, val=0)
    assert check_splits(images, ["x"], SplitSection(val=0)) == []


def test_a_class_absent_from_training_is_reported() -> None:
    entries = [Image("a", "1", 0, "train"), Image("b", "2", 1, "val"), Image("c", "3", 0, "test")]
    images = table_of(entries)
    assign(images, ("train", "val", "test"))
    with pytest.raises(CorpusError, match=r"no training image of class y \(train: x 1, y 0"):
        check_splits(images, ["x", "y"], SplitSection())


def test_a_class_absent_from_test_is_a_note() -> None:
    entries = [Image(str(i), str(i), i % 2, "train" if i < 4 else "val") for i in range(6)]
    entries.append(Image("t", "t", 0, "test"))
    images = table_of(entries)
    assign(images, ("train", "val", "test"))
    assert check_splits(images, ["x", "y"], SplitSection()) == ["no image of class y in the test split"]


def near(cluster: Sequence[int], stored: Sequence[tuple[int, str]] = ()) -> NearGroups:
    """Clusters by row, and clusters of stored images with their splits."""
    numbers = np.array(cluster, np.int64)
    return NearGroups(
        numbers,
        56,
        len(numbers),
        0,
        np.bincount(numbers[numbers >= 0]),
        np.array([at for at, _ in stored], np.int64),
        np.array([SPLITS.index(split) for _, split in stored], np.int8),
    )


@given(st.lists(st.tuples(st.integers(-1, 8), st.integers(-1, 2)), min_size=1, max_size=40), st.integers(0, 5))
def test_near_duplicates_never_straddle_splits_of_our_making(images: list[tuple[int, int]], seed: int) -> None:
    entries = [Image(f"i{i}", "", label) for i, (_, label) in enumerate(images)]
    numbers = np.unique([cluster for cluster, _ in images if cluster >= 0]).tolist()
    clusters = [numbers.index(cluster) if cluster >= 0 else -1 for cluster, _ in images]
    found = assign(entries, near=near(clusters), seed=seed, val=0.3, test=0.3)
    for cluster in set(clusters) - {-1}:
        assert len({found[e.key] for e, own in zip(entries, clusters, strict=True) if own == cluster}) == 1


def test_new_near_duplicates_of_what_is_gone_from_the_folder_follow_it() -> None:
    found = assign([*pairs(10, 2), Image("a", "", 0), Image("b", "", 1)], near=near([-1] * 20 + [0, 1], [(0, "val")]))
    assert found["a"] == "val"


def test_an_unlabelled_near_duplicate_of_official_test_goes_there_and_a_labelled_one_does_not() -> None:
    entries = [Image(f"i{n}", "", n % 2, "test" if n < 4 else "train") for n in range(40)]
    entries += [Image("pool"), Image("other")]
    # Rows 0 (test) and 10 (train) are near each other, and so is the first of the pool.
    clusters = [-1] * 42
    clusters[0] = clusters[10] = clusters[40] = 0
    found = assign(entries, ("train", "test"), near=near(clusters), val=0.25)
    assert (found["i0"], found["pool"], found["other"]) == ("test", "test", "train")
    assert found["i10"] in ("train", "val")


def test_an_official_training_image_near_a_stored_test_image_does_not_become_one() -> None:
    entries = [Image(f"i{n}", "", n % 2, "test" if n < 4 else "train") for n in range(40)]
    clusters = [-1] * 40
    clusters[0] = clusters[10] = 0
    stored = {f"i{n}": "test" for n in range(4)}
    places = {f"image:i{n}": "test" for n in range(4)}
    given_ = near(clusters, [(0, "test")])
    found = assign(entries, ("train", "test"), near=given_, stored=stored, patients=places, val=0.25)
    assert found["i10"] in ("train", "val")
