"""Intervals over patients, paired differences, seeds."""

from __future__ import annotations

import numpy as np
import pytest

from models.statistics.bootstrap import bootstrap, percentile_interval, share_interval, share_of_gap, t_interval
from models.statistics.metrics import metrics

N = 300


def _arms(gain: float = 0.5) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, N)
    noise = [rng.dirichlet(np.ones(3), N) for _ in range(2)]
    return {"good": [x + gain * np.eye(3)[label] for x in noise], "bad": noise}, label


def _run(patient: np.ndarray, resamples: int = 400, seed: int = 0, gain: float = 0.5):  # type: ignore[no-untyped-def]
    arms, label = _arms(gain)
    return bootstrap("single", arms, label, None, patient, resamples=resamples, metrics=("accuracy", "auc"), seed=seed)


def test_interval_holds_the_point_value() -> None:
    arms, label = _arms()
    found = _run(np.arange(N)).interval("bad", "accuracy")
    point = np.mean([metrics("single", p, label)["accuracy"] for p in arms["bad"]])
    assert found.low < point < found.high
    assert found.drawn == found.defined == 400


def test_width_is_that_of_the_binomial() -> None:
    label = np.zeros(400, int)
    prob = np.where(np.arange(400)[:, None] % 2 == 0, [0.9, 0.1], [0.1, 0.9])
    drawn = bootstrap("single", {"a": [prob]}, label, None, np.arange(400), resamples=2000, metrics=("accuracy",))
    found = drawn.interval("a", "accuracy")
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.1)


def test_images_of_one_patient_widen_the_interval() -> None:
    label = np.zeros(N, int)
    prob = np.where((np.arange(N) // 10 % 2 == 0)[:, None], [0.9, 0.1], [0.1, 0.9])
    widths = []
    for patient in (np.arange(N), np.arange(N) // 10):
        drawn = bootstrap("single", {"a": [prob]}, label, None, patient, resamples=500, metrics=("accuracy",))
        found = drawn.interval("a", "accuracy")
        widths.append(found.high - found.low)
    # Ten equal images of a patient are worth one: sqrt(10) times as wide.
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.2)


def test_paired_difference_is_narrower_than_the_two_intervals() -> None:
    drawn = _run(np.arange(N), gain=0.05)
    paired = drawn.difference("good", "bad", "auc")
    alone = [drawn.interval(a, "auc") for a in ("good", "bad")]
    assert paired.high - paired.low < sum(i.high - i.low for i in alone) / 2
    assert paired.low > 0


def test_an_arm_differs_from_itself_by_nothing() -> None:
    found = _run(np.arange(N)).difference("good", "good", "accuracy")
    assert (found.low, found.high) == (0.0, 0.0)


def test_equal_seeds_repeat_and_others_do_not() -> None:
    first, again, other = (_run(np.arange(N), seed=s).values["bad"]["auc"] for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_chunks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _run(np.arange(N), resamples=50).values["good"]["auc"]
    monkeypatch.setattr("models.statistics.bootstrap._CELLS", 7 * N)
    assert np.array_equal(_run(np.arange(N), resamples=50).values["good"]["auc"], whole)


def test_a_metric_that_most_resamples_leave_undefined_has_no_interval() -> None:
    prob = np.array([[0.9, 0.1]] * 5)
    label, patient = np.zeros(5, int), np.arange(5)
    drawn = bootstrap("single", {"a": [prob]}, label, None, patient, resamples=20, metrics=("auc",))
    assert drawn.interval("a", "auc") is None


def test_t_interval_by_hand() -> None:
    # mean 2, standard deviation 1, three seeds: 2 -+ 4.3027 / sqrt(3)
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert t_interval([1.0]) is None


def test_seeds_that_differ_widen_an_interval_over_patients_crossed_with_seeds() -> None:
    label = np.zeros(N, int)
    rights = (0.9, 0.5, 0.7)
    seeds = [np.where((np.arange(N) < share * N)[:, None], [0.9, 0.1], [0.1, 0.9]) for share in rights]
    drawn = bootstrap("single", {"a": seeds}, label, None, np.arange(N), resamples=500, metrics=("accuracy",))
    patients = drawn.interval("a", "accuracy")
    crossed = percentile_interval(drawn.crossed("accuracy", {"a": (0, 1, 2)})["a"])
    assert crossed.high - crossed.low > 2 * (patients.high - patients.low)


def test_arms_of_the_same_seeds_draw_the_same_seeds() -> None:
    drawn = _run(np.arange(N))
    same = drawn.crossed("accuracy", {"good": (0, 1), "bad": (0, 1)})
    assert np.array_equal(same["good"] - same["good"], np.zeros(400))
    again = drawn.crossed("accuracy", {"bad": (0, 1)})
    assert np.array_equal(same["bad"], again["bad"])


def test_an_arm_of_one_seed_keeps_it() -> None:
    arms, label = _arms()
    drawn = bootstrap(
        "single", {"good": arms["good"][:1]}, label, None, np.arange(N), resamples=50, metrics=("accuracy",)
    )
    assert np.array_equal(drawn.crossed("accuracy", {"good": (7,)})["good"], drawn.values["good"]["accuracy"])


def test_share_of_a_gap_by_hand() -> None:
    low, high = np.zeros(101), np.ones(101)
    found = share_of_gap(np.linspace(0, 1, 101), low, high)
    assert (found.low, found.high) == pytest.approx((0.02, 0.98), abs=0.011)


def test_a_resample_without_a_gap_is_beyond_every_share() -> None:
    value, low, high = np.full(200, 0.5), np.zeros(200), np.ones(200)
    high[0] = -1.0
    assert share_of_gap(value, low, high).high == 0.5
    high[:20] = -1.0
    assert share_of_gap(value, low, high) is None


def test_a_share_is_resampled_as_accuracy_is() -> None:
    rng = np.random.default_rng(4)
    rows, patient = rng.random(120) < 0.6, np.array([f"p{number // 3}" for number in range(120)])
    right = [rng.random(120) < share for share in (0.7, 0.9)]
    prob = [np.stack([~each, each], axis=1).astype(float) for each in right]
    drawn = bootstrap(
        "single", {"": prob}, np.where(rows, 1, -1), None, patient, resamples=300, metrics=["accuracy"]
    ).interval("", "accuracy")
    assert share_interval(right, rows, patient, resamples=300) == drawn
