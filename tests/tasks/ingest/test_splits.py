"""Splits of our making and of others'."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import CorpusError
from tasks.corpora import Row
from tasks.ingest.entries import Entry
from tasks.ingest.splits import assign_splits, check_splits, mark_leaks
from tasks.spec import SplitSection

NONE: dict[str, str] = {}


def entry(key: str, patient: str = "", label: int = -1, split: str = "", sha: str = "") -> Entry:
    return Entry(Row(f"{key}.png", key, label, patient=patient, split=split), key, f"{key}.png", patient, sha or key)


def assign(entries: list[Entry], official: tuple[str, ...] = (), **rest: object) -> dict[str, str]:
    stored, people = rest.pop("stored", NONE), rest.pop("people", NONE)
    section = SplitSection(**rest)  # type: ignore[arg-type]
    assign_splits(entries, section, frozenset(official), stored=stored, people=people)  # type: ignore[arg-type]
    return {e.key: e.split for e in entries}


def pairs(patients: int, classes: int) -> list[Entry]:
    return [entry(f"{p}{side}", str(p), p % classes) for p in range(patients) for side in "lr"]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(-1, 3)), min_size=1, max_size=40), st.integers(0, 5))
def test_a_patient_never_straddles_splits(images: list[tuple[int, int]], seed: int) -> None:
    entries = [entry(f"i{i}", f"p{p}", label) for i, (p, label) in enumerate(images)]
    assign(entries, seed=seed, val=0.3, test=0.3)
    splits: dict[str, set[str]] = {}
    for e in entries:
        splits.setdefault(e.patient, set()).add(e.split)
    assert all(len(found) == 1 for found in splits.values())
    labelled = {e.row.label for e in entries if e.row.label >= 0}
    patients_of = {label: {e.patient for e in entries if e.row.label == label} for label in labelled}
    rarest = min(labelled, key=lambda x: (len(patients_of[x]), x), default=None)
    assert rarest is None or any(e.split == "train" and e.row.label == rarest for e in entries)


@given(st.permutations(range(20)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    entries = pairs(10, 2)
    expected = assign(pairs(10, 2))
    assert assign([entries[i] for i in order]) == expected


def test_the_seed_matters() -> None:
    assert assign(pairs(20, 2), seed=0) != assign(pairs(20, 2), seed=1)


def test_shares_hold_within_every_class() -> None:
    entries = pairs(100, 4)
    assign(entries, val=0.2, test=0.4)
    counts = Counter((e.row.label, e.split) for e in entries)
    assert {counts[label, "test"] for label in range(4)} == {20}
    assert {counts[label, "val"] for label in range(4)} == {10}


def test_unlabelled_images_go_with_their_patient_else_to_train() -> None:
    entries = [*pairs(20, 2), *(entry(f"{p}u", str(p)) for p in range(20)), entry("stranger", "99"), entry("nobody")]
    found = assign(entries)
    assert all(found[f"{p}u"] == found[f"{p}l"] for p in range(20))
    assert (found["stranger"], found["nobody"]) == ("train", "train")


def test_new_patients_do_not_move_old_ones() -> None:
    before = pairs(20, 2)
    assign(before)
    people = {e.person: e.split for e in before}
    after = pairs(40, 2)
    found = assign(after, people=people)
    assert all(found[e.key] == e.split for e in before)
    assert Counter(found.values())["test"] == 16


def test_official_splits_are_taken_as_they_stand() -> None:
    entries = [entry("a", "1", 0, "train"), entry("b", "1", 0, "test"), entry("c", "2", 0, "val")]
    assert assign(entries, ("train", "val", "test")) == {"a": "train", "b": "test", "c": "val"}
    assert mark_leaks(entries) == 1
    assert [e.leak for e in entries] == [False, True, False]


def test_equal_bytes_in_train_and_test_are_a_leak() -> None:
    entries = [entry("a", "1", 0, "train", sha="s"), entry("b", "2", 0, "test", sha="s")]
    assign(entries, ("train", "val", "test"))
    assert mark_leaks(entries) == 1


def test_validation_is_carved_out_of_official_train_by_patient() -> None:
    entries = pairs(40, 2)
    for i, e in enumerate(entries):
        e.row.split = "test" if i < 16 else "train"
    found = assign(entries, ("train", "test"), val=0.25)
    assert [found[e.key] for e in entries[:16]] == ["test"] * 16
    assert Counter(found.values()) == {"test": 16, "val": 16, "train": 48}
    assert all(found[f"{p}l"] == found[f"{p}r"] for p in range(40))


def test_a_patient_of_the_official_test_is_not_carved_into_validation() -> None:
    entries = [*pairs(10, 1), entry("leaky", "0", 0)]
    for e in entries:
        e.row.split = "test" if e.key == "leaky" else "train"
    found = assign(entries, ("train", "test"), val=0.9, test=0.0)
    assert (found["0l"], found["leaky"]) == ("train", "test")


def test_rows_in_no_list_go_by_our_splitter_when_lists_leave_room() -> None:
    entries = [*pairs(20, 2), entry("t", "t", 0, "test")]
    found = assign(entries, ("test",), val=0.5)
    assert Counter(found.values()) == {"test": 1, "val": 20, "train": 20}


def test_a_label_without_a_place_in_a_whole_official_split_is_quarantined() -> None:
    entries = [entry("a", "1", 0, "train"), entry("b", "2", 0)]
    assign(entries, ("train", "val", "test"))
    assert entries[1].row.reason == "it has a label, but no place in the official split"


def test_a_stored_image_cannot_change_its_official_split() -> None:
    with pytest.raises(CorpusError, match=r"1 images stand in another official split .* first a\.png: test"):
        assign([entry("a", "1", 0, "test")], ("train", "test"), stored={"a": "train"})


def test_an_empty_split_is_told_with_the_counts() -> None:
    entries = [entry("a", "1", 0, "train"), entry("b", "2", 1, "train"), entry("c", "3", 0, "val")]
    assign(entries, ("train", "val", "test"))
    with pytest.raises(CorpusError, match=r"no labelled image in the test split \(train: x 1, y 1; val: x 1, y 0"):
        check_splits(entries, ["x", "y"], SplitSection())


def test_a_split_with_share_0_may_be_empty() -> None:
    entries = pairs(10, 1)
    assign(entries, val=0)
    assert check_splits(entries, ["x"], SplitSection(val=0)) == []


def test_a_class_absent_from_training_is_told() -> None:
    entries = [entry("a", "1", 0, "train"), entry("b", "2", 1, "val"), entry("c", "3", 0, "test")]
    assign(entries, ("train", "val", "test"))
    with pytest.raises(CorpusError, match=r"no training image of class y \(train: x 1, y 0"):
        check_splits(entries, ["x", "y"], SplitSection())


def test_a_class_absent_from_test_is_a_note() -> None:
    entries = [entry(str(i), str(i), i % 2, "train" if i < 4 else "val") for i in range(6)]
    entries.append(entry("t", "t", 0, "test"))
    assign(entries, ("train", "val", "test"))
    assert check_splits(entries, ["x", "y"], SplitSection()) == ["no image of class y in the test split"]
