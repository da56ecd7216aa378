"""What Dask's workers say in a terminal."""

from __future__ import annotations

import logging
import sys

from distributed.comm.core import CommClosedError

from infra.compute.worker_preload import is_told


def record(message: str, error: Exception) -> logging.LogRecord:
    try:
        raise error
    except type(error):
        return logging.LogRecord("distributed.worker", logging.ERROR, __file__, 1, message, (), sys.exc_info())


def test_a_heartbeat_that_meets_the_end_of_its_scheduler_is_not_told() -> None:
    assert not is_told(record("Failed to communicate with scheduler during heartbeat.", CommClosedError("closed")))


def test_other_errors_of_a_worker_are_told() -> None:
    assert is_told(record("Unexpected exception during heartbeat. Closing worker.", ValueError("what")))
    assert is_told(record("Failed to store", OSError("no space")))
    assert is_told(logging.LogRecord("distributed.worker", logging.ERROR, __file__, 1, "alone", (), None))
