"""Running work hears a stop request."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.compute.stopping import StopFlag, preemption_check, stop_check
from infra.errors import CancelledError, TransientError
from tests.prefect_client import wait_until


def work(topic: str, seconds: float) -> str:
    """Batches until somebody says stop."""
    check, end = stop_check(topic, every=0.1), time.monotonic() + seconds
    while time.monotonic() < end:
        check()
        time.sleep(0.01)
    return "to the end"


def submit_and_fail(cluster: Cluster) -> Any:
    """What a driver does that meets an error while its work runs; the future is in the error."""
    with StopFlag(cluster) as flag:
        raise TransientError(cluster.client.submit(work, flag.topic, 60.0, pure=False))


def test_running_work_hears_the_flag(cluster: Cluster) -> None:
    with StopFlag(cluster) as flag:
        future = cluster.client.submit(work, flag.topic, 60.0, pure=False)
        flag.raise_it()
        with pytest.raises(CancelledError, match="stopped on request"):
            future.result(timeout=30)
        future.release()


def test_leaving_by_an_exception_raises_the_flag(cluster: Cluster) -> None:
    with pytest.raises(TransientError) as caught:
        submit_and_fail(cluster)
    with pytest.raises(CancelledError):
        caught.value.args[0].result(timeout=30)
    caught.value.args[0].release()


def test_a_flag_that_nobody_raises_stops_nothing(cluster: Cluster) -> None:
    with StopFlag(cluster) as flag:
        assert cluster.client.submit(work, flag.topic, 0.4, pure=False).result() == "to the end"
    assert not flag.raised


def test_flags_do_not_hear_each_other(cluster: Cluster) -> None:
    with StopFlag(cluster) as one, StopFlag(cluster) as other:
        one.raise_it()
        assert cluster.client.submit(work, other.topic, 0.4, pure=False).result() == "to the end"


def test_no_topic_never_stops_and_needs_no_worker() -> None:
    check = stop_check("", every=0.0)
    assert check() is None  # type: ignore[func-returns-value]


def leaving() -> bool:
    """What a task hears that asks whether its worker closes."""
    return preemption_check()()


def test_nobody_is_asked_to_leave_a_worker_that_stays(cluster: Cluster) -> None:
    assert cluster.client.submit(leaving, pure=False).result() is False


def test_there_is_nothing_to_leave_outside_of_a_worker() -> None:
    assert leaving() is False


def work_on(folder: str, topic: str) -> None:
    """Batches for a minute; says in a folder that it began, and how it ended."""
    check, end = stop_check(topic, every=0.1), time.monotonic() + 60
    (Path(folder) / "began").touch()
    try:
        while time.monotonic() < end:
            check()
            time.sleep(0.01)
    except CancelledError as error:
        (Path(folder) / "ended").write_text(str(error))


def test_work_whose_driver_is_gone_stops_on_workers_that_go_on(cluster: Cluster, tmp_path: Path) -> None:
    from distributed import Client

    # A driver of its own; it leaves as a killed one does, without a word to its work.
    with Client(cluster.client.scheduler.address, security=cluster.client.security, set_as_default=False) as driver:
        future = driver.submit(work_on, str(tmp_path), "a flag that nobody raises", pure=False)
        wait_until((tmp_path / "began").exists)
        assert not future.done()
    wait_until((tmp_path / "ended").exists)
    wait_until(lambda: (tmp_path / "ended").read_text() == "nobody waits for this work any more")
