"""Agreement with float32, judged by the divergence of probabilities with its interval."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.engines.agreement import FIRST_IMAGES, MOST_IMAGES, Agreement, compared, total_variation


def _logits(count: int, classes: int = 5, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(count, classes)).astype(np.float32)


def _decided(error: float, *, bar: float, available: int = 4096, seed: int = 1) -> tuple[Agreement, list[int]]:
    """Compare with logits that are off by normal errors; also the numbers of images after each look."""
    reference = _logits(available)
    other = reference + np.random.default_rng(seed).normal(scale=error, size=reference.shape).astype(np.float32)
    looks: list[int] = []

    def predict(start: int, stop: int) -> np.ndarray:
        looks.append(stop)
        return other[start:stop]

    found = compared(predict, lambda a, b: reference[a:b], available, many=False, max_divergence=bar)
    return found, looks


def test_the_distance_is_that_of_the_probabilities() -> None:
    reference = np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    other = np.log([[0.4, 0.35, 0.25], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(total_variation(other, reference, many=False), [0.1, 0.0], atol=1e-12)


def test_labels_of_their_own_have_a_distance_each() -> None:
    odds = np.array([[0.5, 0.9]])
    moved = np.array([[0.7, 0.8]])
    found = total_variation(np.log(moved / (1 - moved)), np.log(odds / (1 - odds)), many=True)
    np.testing.assert_allclose(found, [0.15], atol=1e-12)


def test_a_change_of_rank_between_equally_likely_classes_is_no_fault() -> None:
    """The case of 64 images of which two changed their top class, for a shift of a thousandth of a logit."""
    reference = _logits(64)
    reference[:2, :2] = 5.0
    other = reference.copy()
    other[:2, 1] += 1e-3
    found = Agreement.of(other, reference)
    assert found.top1 == 62 / 64
    assert found.why_not(0.02) == ""


def test_probabilities_that_move_are_a_fault_though_no_rank_changes() -> None:
    reference = _logits(64)
    found = Agreement.of(2 * reference, reference)
    assert found.top1 == 1.0
    assert found.refused(0.02)
    assert "its probabilities differ from those of float32 by" in found.why_not(0.02)


def test_clear_cases_are_decided_on_the_first_images() -> None:
    near, looks = _decided(0.001, bar=0.02)
    assert (near.accepted(0.02), looks) == (True, [FIRST_IMAGES])
    far, looks = _decided(1.0, bar=0.02)
    assert (far.refused(0.02), looks) == (True, [FIRST_IMAGES])


def test_cases_near_the_bar_take_more_images() -> None:
    mean = _decided(0.1, bar=1.0)[0].divergence
    found, looks = _decided(0.1, bar=1.12 * mean)
    assert len(looks) > 1
    assert found.samples == looks[-1]
    assert found.high - found.low < 0.8 * (_decided(0.1, bar=1.0)[0].high - _decided(0.1, bar=1.0)[0].low)


def test_a_case_that_stays_open_is_refused_at_the_limit_and_said_to_be_open() -> None:
    whole = compared(
        lambda a, b: _logits(4096)[a:b] + _noise()[a:b],
        lambda a, b: _logits(4096)[a:b],
        4096,
        many=False,
        max_divergence=1e-12 + float(total_variation(_logits(512) + _noise()[:512], _logits(512), many=False).mean()),
    )
    assert whole.samples == MOST_IMAGES
    bar = whole.divergence
    assert not whole.accepted(bar)
    assert not whole.refused(bar)
    assert "more images would have to decide" in whole.why_not(bar)


def _noise() -> np.ndarray:
    return np.random.default_rng(2).normal(scale=0.1, size=(4096, 5)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_mean_of_many_images(seed: int) -> None:
    reference = _logits(20_000, seed=seed)
    noise = np.random.default_rng(seed + 100).normal(scale=0.2, size=reference.shape)
    truth = total_variation(reference + noise, reference, many=False).mean()
    found = Agreement.of((reference + noise)[:128], reference[:128])
    assert found.low < truth < found.high


def test_fewer_images_than_the_first_look_are_all_compared() -> None:
    found, looks = _decided(0.001, bar=0.02, available=7)
    assert (found.samples, looks) == (7, [7])


def test_images_without_finite_logits_in_float32_are_not_compared() -> None:
    reference = np.array([[1.0, 2.0], [np.nan, 0.0], [3.0, 1.0]], dtype=np.float32)
    other = np.array([[1.0, 2.5], [5.0, 0.0], [1.0, 3.0]], dtype=np.float32)
    found = Agreement.of(other, reference)
    assert (found.top1, found.max_error, found.samples) == (0.5, 2.0, 2)


def test_logits_that_are_not_finite_disagree() -> None:
    reference = np.array([[1.0, 2.0], [0.0, 1.0]], dtype=np.float32)
    found = Agreement.of(np.array([[np.nan, 2.0], [0.0, 1.0]], dtype=np.float32), reference)
    assert found.refused(1.0)
    assert "not finite on some of 2 images" in found.why_not(1.0)
    assert Agreement.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
