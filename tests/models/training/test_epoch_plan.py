"""The order of samples is a function of seed and position, and contains every sample."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.epoch_plan import NATURAL, EpochPlan

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


def test_partners_follow_one_another_and_no_sample_is_lost() -> None:
    def partner(epoch: int, shard: int) -> np.ndarray:
        rows = np.arange(12)
        # The last has no partner; row 2 of the third shard is mixed with a row that is not used.
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


KINDS = [
    np.array([0, 0, 0, 0, 1]),
    np.array([], dtype=int),
    np.array([1, NATURAL, 1]),
    np.array([2, *[0] * 9, NATURAL]),
]


def test_balanced_classes_come_equally_often_and_the_rest_once() -> None:
    plan = EpochPlan(ROWS, seed=3, window=2, classes=KINDS)
    kind = {(s, int(row)): int(k) for s, rows in enumerate(ROWS) for row, k in zip(rows, KINDS[s], strict=True)}
    for epoch in range(5):
        seen = [(shard, row) for _, shard, row in plan.batch(epoch, plan.size).tolist()]
        counts = {number: sum(kind[sample] == number for sample in seen) for number in (0, 1, 2)}
        # 17 samples of three classes: 13 of the first, 3 of the second, 1 of the third.
        assert counts == {0: 6, 1: 6, 2: 6}
        assert sorted(s for s in seen if kind[s] == NATURAL) == [(2, 4), (3, 10)]


def test_rows_of_a_balanced_class_take_turns() -> None:
    plan = EpochPlan(ROWS, seed=3, window=2, classes=KINDS)
    visits: dict[tuple[int, int], list[int]] = {}
    for step in range(4 * plan.size):
        ((turn, shard, row),) = plan.batch(step, 1).tolist()
        visits.setdefault((shard, row), []).append(turn)
    assert all(sorted(turns) == list(range(len(turns))) for turns in visits.values())
    first = [len(visits[s, int(row)]) for s, rows in enumerate(ROWS) for row in rows[KINDS[s] == 0]]
    assert sum(first) == 4 * 6
    assert set(first) == {1, 2}
    assert len(visits[3, 0]) == 4 * 6


def test_partners_of_balanced_classes_meet_in_the_same_turn() -> None:
    everybody = [np.arange(6)]
    plan = EpochPlan(everybody, seed=3, classes=[np.array([0, 0, 0, 1, 1, 1])], partner=lambda *_: np.arange(6)[::-1])
    turns = [turn for turn, _, row in plan.batch(0, 6).tolist()]
    rows = [row for _, _, row in plan.batch(0, 6).tolist()]
    assert turns == [0] * 6
    assert all(rows[place] + rows[place + 1] == 5 for place in (0, 2, 4))
