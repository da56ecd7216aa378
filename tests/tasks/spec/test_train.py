"""`train:`: how many steps come of a number of epochs and its bounds, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.spec import StudentSection, TrainSection


def steps(rows: int, **train: Any) -> int:
    return TrainSection(batch=10, **train).steps_for(rows)


@pytest.mark.parametrize(
    ("rows", "bounds", "expected"),
    [
        (10, {}, 4),
        (11, {}, 5),
        (10, {"min_steps": 50}, 50),
        (1000, {"min_steps": 50}, 400),
        (1000, {"max_steps": 90}, 90),
        (10, {"max_steps": 90}, 4),
        (10, {"min_steps": 50, "max_steps": 50}, 50),
        (0, {}, 1),
    ],
)
def test_steps_of_epochs_within_bounds(rows: int, bounds: dict[str, int], expected: int) -> None:
    assert steps(rows, epochs=4, **bounds) == expected


def test_steps_stay_as_they_are_given() -> None:
    assert [steps(rows, steps=7) for rows in (1, 10_000)] == [7, 7]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"steps": 9, "min_steps": 5}, "min_steps and max_steps bound epochs; beside steps leave them out"),
        ({"steps": 9, "max_steps": 5}, "beside steps leave them out"),
        ({"min_steps": 5}, "exactly one of steps and epochs"),
        ({"epochs": 2, "min_steps": 9, "max_steps": 8}, "min_steps 9 is above max_steps 8"),
        ({"epochs": 2, "min_steps": 0}, "greater than or equal to 1"),
    ],
)
def test_a_length_that_contradicts_itself_is_refused(train: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSection(**train)


def test_bounds_are_no_part_of_what_is_cached() -> None:
    plain = TrainSection(epochs=4)
    assert TrainSection(epochs=4, min_steps=50, max_steps=90).identity() == plain.identity()
    assert not {"min_steps", "max_steps"} & plain.identity().keys()


def phase(own: dict[str, Any]) -> TrainSection:
    train = {"epochs": 40, "min_steps": 500, "max_steps": 900, "batch": 8}
    student = StudentSection.model_validate({"model": "micro", "train": train, "phases": [{"name": "tune", **own}]})
    return student.of_phase("tune").train


def test_a_phase_inherits_a_length_with_its_bounds() -> None:
    found = phase({"train": {"lr": 0.1}})
    assert (found.epochs, found.min_steps, found.max_steps, found.batch) == (40, 500, 900, 8)


@pytest.mark.parametrize("own", [{"steps": 9}, {"epochs": 2}])
def test_a_phase_with_its_own_length_leaves_the_bounds_behind(own: dict[str, int]) -> None:
    found = phase({"train": own})
    assert (found.steps, found.epochs) == (own.get("steps"), own.get("epochs"))
    assert (found.min_steps, found.max_steps, found.batch) == (None, None, 8)


def test_a_phase_may_set_a_bound_alone() -> None:
    found = phase({"train": {"min_steps": 600}})
    assert (found.epochs, found.min_steps, found.max_steps) == (40, 600, 900)
