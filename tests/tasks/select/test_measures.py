"""Sureness and agreement, in numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.select.measures import agreement, confidence, disagreement, entropy

EACH = np.array([[[0.8, 0.2, 0.0], [0.6, 0.4, 0.0]], [[0.2, 0.8, 0.0], [0.6, 0.4, 0.0]]])
MEAN = EACH.mean(axis=0)
LN2 = np.log(2)


def test_confidence_is_the_largest_probability() -> None:
    assert confidence(MEAN, many=False).tolist() == [0.5, 0.6]


def test_confidence_of_many_labels_is_the_mean_sureness_of_its_decisions() -> None:
    assert confidence(np.array([[0.9, 0.2, 0.5]]), many=True) == pytest.approx((0.9 + 0.8 + 0.5) / 3)


def test_agreement_is_the_share_of_teachers_with_the_top_class() -> None:
    assert agreement(EACH, MEAN, many=False).tolist() == [0.5, 1.0]


def test_agreement_on_many_labels_is_a_mean_over_classes() -> None:
    each = np.array([[[0.9, 0.9, 0.1]], [[0.2, 0.9, 0.1]], [[0.8, 0.9, 0.1]]])
    # Two of three, three of three, three of three.
    assert agreement(each, each.mean(axis=0), many=True) == pytest.approx([8 / 9])


def test_entropy_is_in_nats() -> None:
    assert entropy(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), many=False) == pytest.approx([LN2, 0])
    assert entropy(np.array([[0.5, 0.0, 1.0]]), many=True) == pytest.approx([LN2 / 3])


def test_disagreement_is_the_divergence_of_jensen_and_shannon() -> None:
    own = -0.8 * np.log(0.8) - 0.2 * np.log(0.2)
    assert disagreement(EACH, MEAN, many=False) == pytest.approx([LN2 - own, 0])


def test_disagreement_of_opposites_is_one_bit() -> None:
    each = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    for many in (False, True):
        assert disagreement(each, each.mean(axis=0), many=many) == pytest.approx([LN2])


def test_one_teacher_does_not_disagree() -> None:
    assert disagreement(EACH[:1], EACH[0], many=False).tolist() == [0, 0]
