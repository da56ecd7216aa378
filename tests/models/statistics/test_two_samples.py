"""Distances of two samples against independent formulas, and how often chance alone passes for a difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp

from models.statistics.two_samples import (
    Sides,
    compared,
    energy_coefficient,
    holm,
    largest_distribution_gap,
    largest_prevalence_gap,
    total_variation,
)


def sides(new: np.ndarray, unit: np.ndarray | None = None, stratum: np.ndarray | None = None) -> Sides:
    count = len(new)
    return Sides(
        new,
        np.arange(count) if unit is None else unit,
        np.zeros(count, np.int64) if stratum is None else stratum,
    )


HALF = np.arange(60) < 30


def test_distribution_gap_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).integers(0, 9, 60) / 9.0
    found, _ = compared(largest_distribution_gap(values), sides(HALF), count=9)
    assert found == pytest.approx(ks_2samp(values[HALF], values[~HALF]).statistic)


def test_total_variation_is_the_share_that_would_have_to_move() -> None:
    kinds = np.array([0] * 15 + [1] * 15 + [0] * 24 + [2] * 6)
    assert compared(total_variation(kinds), sides(HALF), count=9)[0] == pytest.approx(0.5)


def test_prevalence_gap_leaves_out_what_is_unknown() -> None:
    labels = np.zeros((60, 2), np.int8)
    labels[:10, 0], labels[10:30, 0] = 1, -1
    labels[30:, 1] = -1
    assert compared(largest_prevalence_gap(labels), sides(HALF), count=9)[0] == 1.0


def test_energy_coefficient_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(1, 1, (30, 3)), rng.normal(0, 2, (30, 3))])
    scaled = points / points.std(axis=0)
    across = cdist(scaled[HALF], scaled[~HALF]).mean()
    within = sum(cdist(each, each).sum() / (30 * 29) for each in (scaled[HALF], scaled[~HALF]))
    found, _ = compared(energy_coefficient(points), sides(HALF), count=9)
    assert found == pytest.approx(np.sqrt((2 * across - within) / (2 * across)), rel=1e-4)


def test_chance_passes_for_a_difference_as_often_as_its_p_value_says() -> None:
    rng = np.random.default_rng(2)
    found = [compared(largest_distribution_gap(rng.random(60)), sides(HALF), seed, 199)[1] for seed in range(200)]
    assert 0.02 <= np.mean(np.array(found) <= 0.1) <= 0.16


def test_images_of_one_patient_stay_together() -> None:
    unit = np.arange(60) // 10
    kinds = (np.arange(60) // 10) % 2
    new = np.isin(unit, [1, 3, 5])
    # Three patients of six: 20 deals, of which this one and its mirror are as far.
    assert compared(total_variation(kinds), sides(new, unit), count=1999)[1] == pytest.approx(0.1, abs=0.03)
    assert compared(total_variation(kinds), sides(new), count=1999)[1] == pytest.approx(1 / 2000)


def test_sides_are_dealt_within_strata() -> None:
    stratum = np.repeat([0, 1], 30)
    new = np.arange(60) % 30 < np.where(stratum == 0, 6, 24)
    dealt = sides(new, stratum=stratum).dealt(50, 0)
    assert (dealt[:, stratum == 0].sum(axis=1) == 6).all()
    assert (dealt[:, stratum == 1].sum(axis=1) == 24).all()
    assert len(np.unique(dealt, axis=0)) == 50


def test_holm_corrects_as_its_rule_says() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
