"""The cluster handle: lazy, local by default, or an existing scheduler."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from infra.compute.cluster import Absences, Cluster
from infra.compute.cluster_spec import WORKER_ENVIRONMENT, ClusterSection
from infra.compute.fan_out import Job, fan_out
from infra.errors import TransientError, UsageError
from infra.servers.prefect_api import free_port
from infra.settings import reload_settings


def environment(name: str) -> str | None:
    return os.environ.get(name)


def test_nothing_starts_before_it_is_needed() -> None:
    with Cluster(ClusterSection(workers=2)) as handle:
        assert handle._client is None


@pytest.fixture
def of_the_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which a scheduler is set, as `stillroom up` sets it for its workers."""
    monkeypatch.setenv("STILLROOM_DASK", "tls://127.0.0.1:8786")
    monkeypatch.setenv("STILLROOM_DASK_TLS", "/keys")
    monkeypatch.setenv("STILLROOM_DASK_PAGE", "http://127.0.0.1:8787")
    reload_settings()
    yield
    monkeypatch.undo()
    reload_settings()


@pytest.mark.parametrize("keys", [{}, {"window": 2, "wait": 9.0}])
def test_a_spec_that_names_no_cluster_takes_the_scheduler_of_the_machine(
    of_the_machine: None, keys: dict[str, Any]
) -> None:
    found = Cluster(ClusterSection(**keys))
    assert found.section == ClusterSection(kind="address", address="tls://127.0.0.1:8786", tls="/keys", **keys)
    assert found.page == "http://127.0.0.1:8787"
    assert found.here


@pytest.mark.parametrize("keys", [{"workers": 2}, {"kind": "local"}, {"kind": "address", "address": "tls://other:1"}])
def test_a_spec_that_names_a_cluster_keeps_it(of_the_machine: None, keys: dict[str, Any]) -> None:
    found = Cluster(ClusterSection(**keys))
    assert found.section == ClusterSection(**keys)
    assert found.page is None


def test_an_existing_scheduler_is_used_and_left_alone(tls: str) -> None:
    with Cluster(ClusterSection(workers=1, tls=tls)) as first:
        with Cluster(ClusterSection(kind="address", address=first.client.scheduler.address, tls=tls)) as second:
            assert second.slots == first.slots
            assert second.client.submit(environment, "PATH").result() == os.environ["PATH"]
        assert first.client.submit(environment, "PATH").result() == os.environ["PATH"]


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    monkeypatch.setenv("STILLROOM_WORKER_TIMEOUT", "1")
    reload_settings()
    address = f"tls://127.0.0.1:{free_port()}"
    try:
        with (
            Cluster(ClusterSection(kind="address", address=address, tls=tls)) as handle,
            pytest.raises(TransientError, match=address),
        ):
            handle.client  # noqa: B018
    finally:
        monkeypatch.undo()
        reload_settings()


def test_workers_do_not_give_memory_back_at_every_tensor(cluster: Cluster) -> None:
    assert cluster.client.submit(environment, "MALLOC_TRIM_THRESHOLD_").result() == str(1 << 30)


def test_a_resource_that_nobody_declares_is_not_offered(cluster: Cluster) -> None:
    assert not cluster.offers("TAPE-ROBOT")


@pytest.mark.parametrize("values", [{"kind": "address"}, {"address": "tcp://h:1"}])
def test_an_address_goes_with_its_kind(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"cluster\.address"):
        ClusterSection(**values)  # type: ignore[arg-type]


SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A real SSH server on a free port, with keys of its own; what to give to asyncssh.connect."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no sshd here (Debian: openssh-server)")
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd as root puts its unprivileged part
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        _await_port(port, server, folder / "log")
        yield {
            "port": port,
            "username": getpass.getuser(),
            "client_keys": [str(folder / "user")],
            "known_hosts": None,
            "config": None,
        }
    finally:
        server.kill()
        server.wait()


def _await_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


def test_workers_behind_ssh_do_work_and_end_with_the_run(sshd: dict[str, Any], tls: str) -> None:
    ssh = {"hosts": ["127.0.0.1"], "connect_options": sshd}
    section = ClusterSection.model_validate({"preset": "ssh", "workers": 2, "gpus": 2, "tls": tls, "ssh": ssh})
    with Cluster(section) as handle:
        # Functions of the standard library: over there only what is installed can be imported.
        jobs = (Job(str(i), ("CUDA_VISIBLE_DEVICES",)) for i in range(40))
        devices = {outcome.value for outcome in fan_out(handle, os.getenv, jobs, resources={"GPU": 1})}
        settings = [handle.client.run(os.getenv, name).values() for name in WORKER_ENVIRONMENT]
        addresses = [handle.client.scheduler.address, *handle.client.scheduler_info()["workers"]]
        workers = [psutil.Process(pid) for pid in handle.client.run(os.getpid).values()]
    assert [address.partition(":")[0] for address in addresses] == ["tls"] * 3
    assert devices == {"0", "1"}
    assert [set(values) for values in settings] == [{value} for value in WORKER_ENVIRONMENT.values()]
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_a_machine_that_does_not_answer_is_named(tls: str) -> None:
    ssh = {"hosts": ["127.0.0.1"], "connect_options": {"port": free_port(), "known_hosts": None}}
    with (
        Cluster(ClusterSection.model_validate({"preset": "ssh", "tls": tls, "ssh": ssh})) as handle,
        pytest.raises(TransientError, match=r"over SSH on 127\.0\.0\.1"),
    ):
        handle.client  # noqa: B018


def test_each_worker_of_a_machine_needs_a_gpu_of_its_own() -> None:
    section = ClusterSection.model_validate({"preset": "ssh", "workers": 3, "gpus": 2})
    with Cluster(section) as handle, pytest.raises(UsageError, match="there are 2 GPUs"):
        handle.client  # noqa: B018


def test_a_worker_that_came_back_and_died_again_is_not_lost() -> None:
    absences = Absences(30)
    assert absences.update([1], now=0) == set()
    assert absences.update([], now=5) == set()
    assert absences.update([1, 2], now=31) == set()
    assert absences.update([1], now=61) == {1}
