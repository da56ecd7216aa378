"""Confident learning, in numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.select.ranking import LabelErrors, find_label_errors


def said(found: LabelErrors) -> list[tuple[int, int, int]]:
    return list(zip(found.row.tolist(), found.given.tolist(), found.suggested.tolist(), strict=True))


def keys(count: int) -> np.ndarray:
    return np.array([f"k{n}" for n in range(count)], dtype=object)


def test_label_below_its_threshold_beside_a_class_above_its_own_is_suspected() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
    # Thresholds: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.8 + 0.7) / 2 = 0.75.
    found = find_label_errors(probability, np.array([0, 0, 0, 1, 1]), keys(5))
    assert said(found) == [(2, 0, 1)]
    assert found.margin == pytest.approx([0.8])


def test_other_class_must_reach_its_own_threshold() -> None:
    probability = np.array([[0.9, 0.1], [0.45, 0.55], [0.1, 0.9], [0.2, 0.8]], np.float32)
    assert len(find_label_errors(probability, np.array([0, 0, 1, 1]), keys(4))) == 0


def test_thresholds_forgive_a_class_of_which_teachers_are_never_sure() -> None:
    probability = np.array([[0.4, 0.6], [0.4, 0.6], [0.4, 0.6], [0.1, 0.9]], np.float32)
    assert len(find_label_errors(probability, np.array([0, 0, 0, 1]), keys(4))) == 0


def test_likeliest_of_several_classes_is_suggested() -> None:
    probability = np.array([[0.8, 0.1, 0.1], [0.1, 0.5, 0.4], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], np.float32)
    # Thresholds 0.45, 0.3 and 0.5: of image 1 only class 1 reaches its own.
    assert said(find_label_errors(probability, np.array([0, 0, 1, 2]), keys(4))) == [(1, 0, 1)]
    both = np.array([[0.8, 0.1, 0.1], [0.1, 0.4, 0.5], [0.5, 0.3, 0.2], [0.2, 0.4, 0.4]], np.float32)
    assert said(find_label_errors(both, np.array([0, 0, 1, 2]), keys(4))) == [(1, 0, 2)]


def test_class_without_labels_is_never_suggested() -> None:
    probability = np.array([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9], [0.1, 0.8, 0.1]], np.float32)
    assert len(find_label_errors(probability, np.array([0, 0, 1]), keys(3))) == 0


def test_largest_margin_comes_first() -> None:
    probability = np.array([[0.9, 0.1]] * 6 + [[0.3, 0.7], [0.1, 0.9], [0.2, 0.8], [0.5, 0.5]], np.float32)
    given = np.array([0] * 8 + [1, 1])
    found = find_label_errors(probability, given, keys(10))
    assert said(found) == [(7, 0, 1), (6, 0, 1)]
    assert found.margin == pytest.approx([0.8, 0.4])


def test_every_known_label_of_many_is_checked_alone() -> None:
    probability = np.array([[0.9, 0.9], [0.8, 0.2], [0.1, 0.1], [0.1, 0.2], [0.9, 0.5]], np.float32)
    given = np.array([[1, 0], [1, 0], [1, 0], [0, -1], [0, -1]])
    # c0: present needs 0.6, absent (0.9 + 0.1) / 2 = 0.5; c1 has no present label, so nothing can be suggested.
    assert said(find_label_errors(probability, given, keys(5))) == [(2, 0, 0), (4, 0, 1)]


def test_equal_probabilities_are_not_below_their_mean() -> None:
    probability = np.tile(np.array([[0.1, 0.9]], np.float32), (7, 1))
    assert len(find_label_errors(probability, np.array([0] * 6 + [1]), keys(7))) == 0
