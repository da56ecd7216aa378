"""What Prefect is told about failures and names."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from prefect.states import exception_to_failed_state

from infra.errors import BudgetError, CorruptError, TransientError, UsageError
from tasks.pipeline.stage import slug
from tasks.prefect_tasks import markdown_table, may_retry


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TransientError("a worker was lost"), True),
        (ConnectionResetError(), True),
        (UsageError("wrong spec"), False),
        (CorruptError("a flipped byte"), False),
        (BudgetError("too many"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_only_transient_errors_are_worth_another_try(error: Exception, again: bool) -> None:
    state = asyncio.run(exception_to_failed_state(error))
    assert may_retry(cast(Any, None), cast(Any, None), state) is again


def test_artifact_keys_are_small_letters_digits_and_dashes() -> None:
    assert slug("student labels_only seed 0 (ä)") == "student-labels-only-seed-0"


def test_a_wide_table_keeps_every_cell_of_every_row() -> None:
    table = markdown_table([{"rule": "a", "asks": "x|y"}, {"rule": "b", "figure": "two\nlines"}])
    assert table == "| rule | asks | figure |\n| --- | --- | --- |\n| a | x\\|y |  |\n| b |  | two lines |\n"
