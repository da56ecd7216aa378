"""The order of samples is a function of seed and position, and loses nobody."""

from __future__ import annotations

import numpy as np
import pytest

from models.epoch_plan import EpochPlan

ROWS = [np.arange(5), np.array([], dtype=int), np.array([1, 4, 7]), np.arange(11)]


def test_an_epoch_holds_every_sample_once() -> None:
    plan = EpochPlan(ROWS, seed=3, window=2)
    seen = [tuple(r) for step in range(19) for r in plan.batch(step, 1).tolist()]
    assert sorted(seen) == sorted((0, s, int(r)) for s, rows in enumerate(ROWS) for r in rows)


def test_batches_run_across_epochs_without_a_seam() -> None:
    plan = EpochPlan(ROWS, seed=3)
    whole = np.concatenate([plan.batch(s, 1) for s in range(40)])
    pieces = np.concatenate([plan.batch(s, 8) for s in range(5)])
    np.testing.assert_array_equal(whole, pieces)


def test_starting_late_gives_the_same_batches() -> None:
    a, b = EpochPlan(ROWS, seed=3), EpochPlan(ROWS, seed=3)
    early = list(a.batches(0, 12, 4))[7]
    (late,) = b.batches(7, 8, 4)
    np.testing.assert_array_equal(early, late)


def test_epochs_and_seeds_differ_in_order() -> None:
    plan = EpochPlan([np.arange(50)], seed=3)
    first, second = plan.batch(0, 50)[:, 2], plan.batch(1, 50)[:, 2]
    other = EpochPlan([np.arange(50)], seed=4).batch(0, 50)[:, 2]
    assert (first != second).any()
    assert (first != other).any()


def test_no_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="no sample"):
        EpochPlan([np.array([], dtype=int)], seed=0)


def test_partners_follow_one_another_and_nobody_is_lost() -> None:
    def partner(epoch: int, shard: int) -> np.ndarray:
        rows = np.arange(12)
        # The last has nobody; row 2 of the third shard is mixed with one that takes no part.
        return np.where(rows < 11, rows ^ 1, -1) if epoch == 0 else np.full(12, -1)

    plan = EpochPlan(ROWS, seed=3, partner=partner)
    first = plan.batch(0, 19).tolist()
    assert sorted(first) == sorted([0, s, int(r)] for s, rows in enumerate(ROWS) for r in rows)
    places = {(shard, row): place for place, (_, shard, row) in enumerate(first)}
    apart = [abs(places[s, r] - places[s, r ^ 1]) for s, r in places if (s, r ^ 1) in places and r < 10]
    assert apart
    assert set(apart) == {1}
    alone = EpochPlan(ROWS, seed=3)
    np.testing.assert_array_equal(plan.batch(1, 19), alone.batch(1, 19))
