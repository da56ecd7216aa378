"""The sliding window against a real cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from infra.cluster import Cluster
from infra.errors import CancelledError, PermanentError, TransientError
from infra.fanout import Job, fan_out


def double(value: int) -> int:
    return 2 * value


def fail(value: int) -> int:
    raise PermanentError(f"no {value}")


def fail_once(marker: str) -> str:
    path = Path(marker)
    if not path.exists():
        path.touch()
        raise TransientError("first time")
    return "done"


def die_on(value: int, poison: int) -> int:
    if value == poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_every_job_has_an_outcome(cluster: Cluster) -> None:
    jobs = [Job(str(i), (i,)) for i in range(50)]
    found = {o.job.key: o.value for o in fan_out(cluster, double, jobs, window=4)}
    assert found == {str(i): 2 * i for i in range(50)}


def test_a_permanent_error_is_an_outcome_at_once(cluster: Cluster) -> None:
    (outcome,) = fan_out(cluster, fail, [Job("a", (7,))])
    assert isinstance(outcome.error, PermanentError)
    assert outcome.attempts == 1


def test_a_transient_error_is_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    (outcome,) = fan_out(cluster, fail_once, [Job("a", (str(tmp_path / "marker"),))])
    assert (outcome.value, outcome.attempts) == ("done", 2)


def test_a_stop_request_is_heard(cluster: Cluster) -> None:
    with pytest.raises(CancelledError):
        list(fan_out(cluster, double, [Job(str(i), (i,)) for i in range(5)], stop=lambda: True))


def test_poison_is_named_and_its_neighbours_are_done(cluster: Cluster) -> None:
    jobs = [Job(str(i), (i, 3)) for i in range(8)]
    outcomes = {o.job.key: o for o in fan_out(cluster, die_on, jobs)}
    assert {k for k, o in outcomes.items() if o.error is not None} == {"3"}
    assert {k for k, o in outcomes.items() if o.value is not None} == {"0", "1", "2", "4", "5", "6", "7"}
