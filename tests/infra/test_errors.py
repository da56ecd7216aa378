"""How an error that came out of a unit of work is raised again."""

from __future__ import annotations

import pytest

from infra.errors import PermanentError, PoisonError, UsageError, explained


@pytest.mark.parametrize("error", [UsageError("spec"), PoisonError("workers died"), ConnectionError("lost")])
def test_errors_of_ours_and_transient_ones_stay_as_they_are(error: BaseException) -> None:
    assert explained(error, "labelling shard 7 failed") is error


def test_any_other_error_becomes_a_permanent_one_with_its_cause() -> None:
    cause = ZeroDivisionError("by zero")
    found = explained(cause, "labelling shard 7 failed")
    assert type(found) is PermanentError
    assert str(found) == "labelling shard 7 failed: ZeroDivisionError: by zero"
    assert found.__cause__ is cause
