"""Several short calls in one task, each with an end of its own."""

from __future__ import annotations

import threading
import time

import pytest

from infra.compute.bundle import MOST, SECONDS, Bundle, Ended, Pace, portable
from infra.errors import PermanentError


class StubbornError(Exception):
    """Holds what no pickle takes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def double(value: int) -> int:
    if value == 13:
        raise PermanentError("no 13")
    return 2 * value


def test_each_call_of_a_bundle_has_its_own_end() -> None:
    ended, _ = Bundle(double, ((1,), (13,), (2,)), 60.0)()
    assert [end.value for end in ended] == [2, None, 4]
    assert isinstance(ended[1].error, PermanentError)


def test_a_single_call_raises_what_it_raises() -> None:
    with pytest.raises(PermanentError, match="no 13"):
        Bundle(double, ((13,),), 60.0)()


def test_calls_behind_a_long_one_are_left_out() -> None:
    ended, seconds = Bundle(time.sleep, ((0.05,), (0.0,), (0.0,)), 0.04)()
    assert ended == [Ended()]
    assert seconds >= 0.05


def test_a_bundle_grows_with_short_calls_and_shrinks_at_once_with_a_long_one() -> None:
    pace = Pace()
    assert pace.calls(2) == 1
    for _ in range(40):
        pace.took(1e-5)
    assert pace.calls(2) == MOST
    pace.took(2 * SECONDS)
    assert pace.calls(2) == 1


def test_many_slots_get_larger_bundles() -> None:
    pace = Pace()
    for _ in range(40):
        pace.took(0.02)
    assert pace.calls(2) < pace.calls(64)


def test_an_exception_that_cannot_travel_is_told_in_words() -> None:
    told = portable(StubbornError("does not travel"))
    assert (type(told), str(told)) == (RuntimeError, "StubbornError: does not travel")
