"""Who keeps the labels: shares of every class, nested, and errors that say what to take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import SpecError
from tasks.subset.choice import Patients, choose, places

CLASSES = ("none", "mild", "severe")


def patients(*counts: int, images: int = 2) -> Patients:
    """So many patients of each class, with equal numbers of images."""
    label = np.repeat(np.arange(len(counts)), counts)
    names = np.array([f"p{n:03d}" for n in range(len(label))])
    has = np.repeat(label[:, None] == np.arange(len(counts)), images, axis=0)
    return Patients.of(np.repeat(names, images), has, exclusive=True)


def chosen(found: Patients, **asked: float | int | None) -> np.ndarray:
    given = {"share": None, "count": None, "least": None, "seed": 0, **asked}
    return choose(found, CLASSES, **given)  # type: ignore[arg-type]


def by_class(found: Patients, kept: np.ndarray) -> list[int]:
    return [int((kept & (found.stratum == n)).sum()) for n in range(len(CLASSES))]


def test_a_share_is_the_share_of_every_class() -> None:
    found = patients(100, 40, 20)
    assert by_class(found, chosen(found, share=0.25)) == [25, 10, 5]


def test_a_number_is_spread_over_the_classes_in_proportion() -> None:
    found = patients(100, 40, 20)
    assert by_class(found, chosen(found, count=16)) == [10, 4, 2]


@given(st.integers(1, 159), st.integers(0, 5))
def test_a_smaller_choice_is_part_of_a_larger_one(count: int, seed: int) -> None:
    found = patients(100, 40, 20)
    place = places(found.names, found.stratum, seed)
    order = np.lexsort((found.stratum, place))
    assert set(order[:count]) < set(order[: count + 1])
    smaller, larger = (chosen(found, count=n, least=1, seed=seed) for n in (max(count, 20), max(count, 20) + 1))
    assert not (smaller & ~larger).any()


def test_another_seed_chooses_others() -> None:
    found = patients(100, 40, 20)
    assert (chosen(found, share=0.25) != chosen(found, share=0.25, seed=1)).any()


def test_the_order_of_the_images_does_not_matter() -> None:
    label = np.repeat([0, 1, 2], [100, 40, 20])
    names = np.array([f"p{n:03d}" for n in range(160)])
    turned = Patients.of(names[::-1], (label[:, None] == np.arange(3))[::-1], exclusive=True)
    kept = set(turned.names[chosen(turned, share=0.1)])
    straight = Patients.of(names, label[:, None] == np.arange(3), exclusive=True)
    assert kept == set(straight.names[chosen(straight, share=0.1)])


def test_a_patient_counts_with_the_worst_grade() -> None:
    has = np.array([[True, False, False], [False, False, True], [True, False, False]])
    found = Patients.of(np.array(["a", "a", "b"]), has, exclusive=True)
    assert found.stratum.tolist() == [2, 0]


def test_a_class_that_is_left_without_patients_is_an_error_that_names_it() -> None:
    with pytest.raises(SpecError, match=r"share leaves no patient of class severe, which has 4; .*labels\.least: 1"):
        chosen(patients(100, 40, 4), share=0.05)


def test_least_gives_every_class_its_patients() -> None:
    found = patients(100, 40, 4)
    assert by_class(found, chosen(found, share=0.05, least=2)) == [5, 2, 2]


def test_least_takes_no_more_than_there_are() -> None:
    found = patients(100, 40, 1)
    assert by_class(found, chosen(found, share=0.05, least=3)) == [5, 3, 1]


def test_more_patients_than_there_are_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"labels\.patients: 161 are asked for, and 160"):
        chosen(patients(100, 40, 20), count=161)
