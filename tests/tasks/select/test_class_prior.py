"""Alignment of the pool's class mass to the labelled prior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.select.class_prior import BLOCK, align
from tests.tasks.select.pools import pool_of, sure, weighed


def mass(probability: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight @ probability / weight.sum())


def test_certain_images_weigh_prior_over_share() -> None:
    certain = np.repeat(np.eye(2, dtype=np.float32), [6, 2], axis=0)
    done = align(certain, np.ones(8, np.float32), np.array([0.5, 0.5]), 10)
    # 4 of 8 wanted where 6 and 2 are.
    assert done.tolist() == pytest.approx([4 / 6] * 6 + [2] * 2, abs=1e-3)


def test_soft_images_are_aligned_by_hand_solved_factors() -> None:
    # Two images, (3/4, 1/4) and (1/4, 3/4), three times and once; 5/8 of the mass is c0, wanted 1/2.
    p = np.array([[0.75, 0.25]] * 3 + [[0.25, 0.75]], np.float32)
    done = align(p, np.ones(4, np.float32), np.array([0.5, 0.5]), 10)
    # 3 a + b = 4 and 9/4 a + b/4 = 2 give weights a = 2/3 and b = 2.
    assert done.tolist() == pytest.approx([2 / 3] * 3 + [2], abs=1e-3)


def test_weights_stop_at_the_bound() -> None:
    certain = np.repeat(np.eye(2, dtype=np.float32), [99, 1], axis=0)
    done = align(certain, np.ones(100, np.float32), np.array([0.5, 0.5]), 3)
    assert done[-1] == pytest.approx(3)
    assert done.min() >= 0.333


def test_class_that_no_label_names_is_weighed_down_to_the_bound() -> None:
    certain = np.repeat(np.eye(3, dtype=np.float32), [4, 4, 2], axis=0)
    done = align(certain, np.ones(10, np.float32), np.array([0.5, 0.5, 0.0]), 4)
    assert done[-1] == pytest.approx(0.25, abs=1e-3)


def test_dropped_images_stay_dropped_and_do_not_count() -> None:
    certain = np.repeat(np.eye(2, dtype=np.float32), [6, 2], axis=0)
    weight = np.array([1, 1, 0, 0, 0, 0, 1, 1], np.float32)
    done = align(certain, weight, np.array([0.5, 0.5]), 10)
    assert done.tolist() == pytest.approx(weight.tolist(), abs=1e-4)


def test_pool_without_weight_is_left_alone() -> None:
    done = align(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.array([0.9, 0.1]), 2)
    assert done.tolist() == [0, 0]


def test_images_with_many_labels_meet_the_rate_of_every_class() -> None:
    p = np.array([[1, 0], [1, 0], [1, 1], [0, 0], [0, 1], [1, 0]], np.float32)
    target = np.array([0.5, 0.4])
    done = align(p, np.ones(6, np.float32), target, 10, many=True)
    assert mass(p, done) == pytest.approx(target, abs=1e-3)


def test_class_without_known_labels_keeps_its_rate() -> None:
    p = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    done = align(p, np.ones(4, np.float32), np.array([0.7, np.nan]), 10, many=True)
    assert mass(p, done) == pytest.approx([0.7, 0.5], abs=1e-3)


def test_blocks_do_not_show() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.3, 0.3, 0.3], BLOCK + 7).astype(np.float32)
    target = np.array([0.5, 0.3, 0.2])
    done = align(p, np.ones(len(p), np.float32), target, 5)
    assert mass(p, done) == pytest.approx(target, abs=1e-3)
    assert done.sum() == pytest.approx(len(p), rel=1e-3)


def test_alignment_comes_after_the_filters() -> None:
    rows = sure((0, 1.0), (0, 1.0), (0, 1.0), (1, 1.0), (1, 0.6), classes=2)
    done = weighed(pool_of(rows), min_confidence=0.7, align=10.0, target=[0.5, 0.5]).weight
    assert done.tolist() == pytest.approx([2 / 3] * 3 + [2, 0], abs=1e-3)


beliefs = arrays(np.float64, (20, 3), elements=st.floats(0.01, 1)).map(lambda raw: raw / raw.sum(axis=1, keepdims=True))
priors = st.lists(st.floats(0.05, 1), min_size=3, max_size=3).map(lambda raw: np.array(raw) / sum(raw))


@given(beliefs, priors, st.floats(1.5, 20))
def test_every_weight_stays_within_the_bound(p: np.ndarray, target: np.ndarray, bound: float) -> None:
    before = np.arange(20, dtype=np.float32) % 3
    after = align(p.astype(np.float32), before, target, bound)
    assert (after >= before / bound - 1e-3).all()
    assert (after <= before * bound + 1e-3).all()


@given(beliefs, st.lists(st.floats(0.4, 2.5), min_size=3, max_size=3))
def test_prior_that_some_factors_reach_is_met(p: np.ndarray, factors: list[float]) -> None:
    weight = p @ np.array(factors)
    target = mass(p, weight)
    # The factors that meet it keep the sum of weights.
    reach = np.array(factors) * len(p) / weight.sum()
    assume(((reach > 0.2) & (reach < 5)).all())
    done = align(p.astype(np.float32), np.ones(20, np.float32), target, 5)
    assert mass(p, done) == pytest.approx(target, abs=2e-3)


@given(beliefs, priors, st.permutations(range(20)))
def test_order_of_images_does_not_matter(p: np.ndarray, target: np.ndarray, order: list[int]) -> None:
    ones = np.ones(20, np.float32)
    once = align(p.astype(np.float32), ones, target, 3)
    again = align(p[order].astype(np.float32), ones, target, 3)
    assert again == pytest.approx(once[order], abs=1e-3)


def test_prior_out_of_reach_does_not_shrink_the_pool() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0, 1.0, 1.0], 300).astype(np.float32)
    target = np.array([0.97, 0.01, 0.01, 0.01])
    after = align(p, np.ones(300, np.float32), target, 2)
    assert after.sum() == pytest.approx(300, rel=0.01)
    # Only images that are likelier of class 0 than others weigh more.
    assert mass(p, after)[0] > mass(p, np.ones(300))[0] + 0.05
