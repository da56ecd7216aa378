"""Several short calls in one task, each with a result of its own."""

from __future__ import annotations

import threading
import time

import pytest

from infra.compute.bundle import MAX_CALLS, SECONDS, Bundle, BundleSize, CallResult
from infra.errors import PermanentError, picklable


class StubbornError(Exception):
    """Holds what no pickle takes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def double(value: int) -> int:
    if value == 13:
        raise PermanentError("no 13")
    return 2 * value


def test_each_call_of_a_bundle_has_its_own_result() -> None:
    ended, _ = Bundle(double, ((1,), (13,), (2,)), 60.0)()
    assert [end.value for end in ended] == [2, None, 4]
    assert isinstance(ended[1].error, PermanentError)


def test_a_single_call_raises_what_it_raises() -> None:
    with pytest.raises(PermanentError, match="no 13"):
        Bundle(double, ((13,),), 60.0)()


def test_calls_behind_a_long_one_are_left_out() -> None:
    ended, seconds = Bundle(time.sleep, ((0.05,), (0.0,), (0.0,)), 0.04)()
    assert ended == [CallResult()]
    assert seconds >= 0.05


def test_a_bundle_grows_with_short_calls_and_shrinks_at_once_with_a_long_one() -> None:
    size = BundleSize()
    assert size.calls(2) == 1
    for _ in range(40):
        size.update(1e-5)
    assert size.calls(2) == MAX_CALLS
    size.update(2 * SECONDS)
    assert size.calls(2) == 1


def test_many_slots_get_larger_bundles() -> None:
    size = BundleSize()
    for _ in range(40):
        size.update(0.02)
    assert size.calls(2) < size.calls(64)


def test_an_exception_that_cannot_be_pickled_is_put_into_words() -> None:
    found = picklable(StubbornError("does not travel"))
    assert (type(found), str(found)) == (RuntimeError, "StubbornError: does not travel")
