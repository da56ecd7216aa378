"""The sliding window against a real cluster."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dask
import psutil
import pytest
from distributed import LocalCluster

from infra.compute.certificates import named_security
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.compute.fan_out import Job, fan_out
from infra.compute.stopping import StopFlag
from infra.errors import CancelledError, PermanentError, TransientError, UsageError, is_killed
from infra.settings import reload_settings


@pytest.fixture(scope="module")
def _mortals() -> Iterator[Cluster]:
    with Cluster(ClusterSection(workers=2)) as handle:
        yield handle


@pytest.fixture
def mortal(_mortals: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose workers may die; lost ones are soon noticed."""
    monkeypatch.setenv("STILLROOM_POLL", "0.5")
    reload_settings()
    yield _mortals
    monkeypatch.undo()
    reload_settings()


def double(value: int) -> int:
    return 2 * value


def fail(value: int) -> int:
    raise PermanentError(f"no {value}")


def nap(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


def die_times(folder: str, times: int) -> str:
    """Kill this process for the first `times` times."""
    deaths = len(list(Path(folder).iterdir()))
    if deaths < times:
        (Path(folder) / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


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


def test_poison_is_named_and_its_neighbours_are_done(mortal: Cluster) -> None:
    jobs = [Job(str(i), (i, 3)) for i in range(8)]
    outcomes = {o.job.key: o for o in fan_out(mortal, die_on, jobs)}
    assert {k for k, o in outcomes.items() if o.error is not None} == {"3"}
    assert {k for k, o in outcomes.items() if o.value is not None} == {"0", "1", "2", "4", "5", "6", "7"}


def test_poison_ends_with_an_error_that_names_it(mortal: Cluster, tmp_path: Path) -> None:
    (outcome,) = fan_out(mortal, die_times, [Job("shard 7", (str(tmp_path), 99))])
    assert is_killed(outcome.error)
    assert "shard 7: 3 workers died of it" in str(outcome.error)


def test_poison_costs_two_workers_in_company_and_as_many_as_allowed_alone(mortal: Cluster, tmp_path: Path) -> None:
    (outcome,) = fan_out(mortal, die_times, [Job("a", (str(tmp_path), 99))], deaths=1)
    assert (outcome.attempts, len(list(tmp_path.iterdir()))) == (3, 3)


def test_a_worker_that_dies_by_chance_under_a_lone_job_does_not_condemn_it(mortal: Cluster, tmp_path: Path) -> None:
    (outcome,) = fan_out(mortal, die_times, [Job("a", (str(tmp_path), 4))])
    assert (outcome.value, outcome.attempts) == ("done", 5)


def test_workers_that_die_at_random_cost_no_job(mortal: Cluster) -> None:
    chance, found = random.Random(5), []
    for outcome in fan_out(mortal, nap, (Job(str(i), (i, 0.06)) for i in range(80))):
        found.append(outcome.value)
        if len(found) % 16 == 0:
            pids = [pid for pid in mortal.client.run(os.getpid, on_error="ignore").values() if isinstance(pid, int)]
            for pid in chance.sample(pids, k=min(1, len(pids))):
                psutil.Process(pid).kill()
    assert sorted(found) == list(range(80))


def test_poison_among_short_jobs_is_named_alone(mortal: Cluster) -> None:
    jobs = [Job(str(i), (i, 300)) for i in range(400)]
    outcomes = list(fan_out(mortal, die_on, jobs))
    assert [o.job.key for o in outcomes if o.error is not None] == ["300"]
    assert len(outcomes) == 400


def test_short_jobs_are_counted_and_tried_one_by_one(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [Job(str(i), (str(tmp_path / str(i)),)) for i in range(300)]
    found = [(o.value, o.attempts) for o in fan_out(cluster, fail_once, jobs)]
    assert found == [("done", 2)] * 300


def test_one_long_job_among_short_ones_holds_up_none(cluster: Cluster) -> None:
    jobs = [Job(str(i), (i, 1.0 if i == 200 else 0.0)) for i in range(400)]
    found = [o.value for o in fan_out(cluster, nap, jobs)]
    assert sorted(found) == list(range(400))


def test_workers_whose_nanny_gave_up_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_POLL", "0.2")
    reload_settings()
    with Cluster(ClusterSection(workers=2), lost_seconds=0.1) as cluster:
        outcomes = fan_out(cluster, nap, _naps(100))
        next(outcomes)
        cluster.client.retire_workers(list(cluster.client.scheduler_info()["workers"]), close_workers=True)
        assert len(list(outcomes)) == 99
    monkeypatch.undo()
    reload_settings()


def test_a_generator_that_is_closed_early_raises_the_flag(cluster: Cluster) -> None:
    with StopFlag(cluster) as flag, closing(fan_out(cluster, nap, _naps(20), flag=flag)) as outcomes:
        next(outcomes)
        outcomes.close()
        assert flag.raised


def test_a_stop_that_is_heard_raises_the_flag(cluster: Cluster) -> None:
    flag = StopFlag(cluster)
    with pytest.raises(CancelledError), flag:
        list(fan_out(cluster, nap, _naps(20), stop=lambda: True, flag=flag))
    assert flag.raised


def test_jobs_that_all_end_raise_no_flag(cluster: Cluster) -> None:
    with StopFlag(cluster) as flag:
        assert len(list(fan_out(cluster, nap, _naps(5), flag=flag))) == 5
    assert not flag.raised


def _naps(count: int) -> Iterator[Job]:
    return (Job(str(i), (i, 0.1)) for i in range(count))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers are waited for one second."""
    monkeypatch.setenv("STILLROOM_WORKER_TIMEOUT", "1")
    monkeypatch.setenv("STILLROOM_POLL", "0.2")
    reload_settings()
    yield
    monkeypatch.undo()
    reload_settings()


@pytest.fixture
def foreign(impatient: None, tls: str) -> Iterator[LocalCluster]:
    """A scheduler that somebody else started and that waits for workers for ever."""
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": None}),
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tls://",
            security=named_security(Path(tls)),
            dashboard_address="127.0.0.1:0",
        ) as cluster,
    ):
        yield cluster


def test_a_resource_that_no_worker_offers_is_named(impatient: None) -> None:
    with (
        Cluster(ClusterSection(workers=1)) as cluster,
        pytest.raises(UsageError, match=r"no Dask worker offered the resource GPU=1 .* --resources GPU=1"),
    ):
        list(fan_out(cluster, double, [Job("a", (1,))], resources={"GPU": 1}))


def test_a_foreign_scheduler_that_waits_for_ever_for_a_resource_is_not_waited_for(
    foreign: LocalCluster, tls: str
) -> None:
    section = ClusterSection(kind="address", address=foreign.scheduler_address, tls=tls)
    with Cluster(section) as cluster, pytest.raises(UsageError, match="GPU=1"):
        list(fan_out(cluster, double, [Job("a", (1,))], resources={"GPU": 1}))


def test_a_scheduler_without_workers_is_not_waited_for(foreign: LocalCluster, tls: str) -> None:
    with Cluster(ClusterSection(kind="address", address=foreign.scheduler_address, tls=tls)) as cluster:
        outcomes = fan_out(cluster, nap, _naps(1000), window=2)
        next(outcomes)
        foreign.scale(0)
        with pytest.raises(TransientError, match="had no worker for 1 s"):
            list(outcomes)
