"""Who may talk to a Dask cluster: the holder of its key, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.compute.certificates import AUTHORITY, CERTIFICATE, KEY, create, named_security
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import UsageError

NOBODY = 65534

# What a stranger tries: to be a client of the scheduler. The second argument says with which certificates.
STRANGER = """
import os, sys
from distributed import Client
from distributed.security import Security
address, certificates, user = sys.argv[1:]
# After the imports: the other user need not be able to read this Python.
Security.temporary()
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
security = Security.temporary() if certificates == "own" else None
try:
    client = Client(address, timeout="3s", security=security)
    print("answered", len(client.scheduler_info()["workers"]))
except Exception as error:
    print("refused", type(error).__name__, error)
"""


def _stranger(address: str, certificates: str) -> str:
    """What a program of another user gets that tries to use a scheduler."""
    if os.getuid() != 0:
        pytest.skip("only root can start a program as another user")
    ran = subprocess.run(
        [sys.executable, "-c", STRANGER, address, certificates, str(NOBODY)],
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": "/tmp"},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout, ran.stderr
    return ran.stdout


def test_the_same_program_gets_an_answer_where_there_is_no_tls() -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0") as open_to_all:
        assert _stranger(open_to_all.scheduler_address, "none").startswith("answered")


@pytest.mark.parametrize("certificates", ["none", "own"])
def test_another_user_cannot_talk_to_the_scheduler(cluster: Cluster, certificates: str) -> None:
    address = cluster.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    assert _stranger(address, certificates).startswith("refused")


def test_another_user_cannot_talk_to_the_scheduler_without_tls(cluster: Cluster) -> None:
    plain = cluster.client.scheduler.address.replace("tls://", "tcp://")
    assert _stranger(plain, "none").startswith("refused")


def test_another_user_cannot_talk_to_a_worker(cluster: Cluster) -> None:
    address = next(iter(cluster.client.scheduler_info()["workers"]))
    assert address.startswith("tls://127.0.0.1:")
    assert _stranger(address, "own").startswith("refused")


def _listening(process: psutil.Process) -> list[tuple[str, int]]:
    return [place.laddr for place in process.net_connections("inet") if place.status == psutil.CONN_LISTEN]


def test_nothing_of_a_local_cluster_listens_beyond_loopback(cluster: Cluster) -> None:
    workers = [psutil.Process(pid) for pid in cluster.client.run(os.getpid).values()]
    places = [place for worker in workers for place in _listening(worker)]
    assert places
    assert {host for host, _ in places + _listening(psutil.Process())} == {"127.0.0.1"}


@pytest.mark.parametrize("page", ["status", "info/main/workers.html", "json/counts.json", "metrics"])
def test_the_scheduler_shows_no_pages(cluster: Cluster, page: str) -> None:
    port = cluster.client.scheduler_info()["services"]["dashboard"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.read() == b"ok"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}")


def test_certificates_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    before = os.umask(0)
    try:
        create(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {(folder / name).stat().st_mode & 0o777 for name in (AUTHORITY, CERTIFICATE, KEY)} == {0o600}
    assert named_security(folder).require_encryption


def test_certificates_are_not_made_twice(tmp_path: Path) -> None:
    create(tmp_path)
    with pytest.raises(UsageError, match=r"ca\.crt already"):
        create(tmp_path)


def test_missing_certificates_come_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=rf"no {tmp_path}/ca\.crt; .*python -m infra\.compute\.certificates {tmp_path}"
    ):
        named_security(tmp_path)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create(tmp_path)
    (tmp_path / KEY).chmod(0o640)
    with pytest.raises(UsageError, match=r"tls\.key may be read by others \(mode 0640\); chmod 600"):
        named_security(tmp_path)


def test_an_expired_certificate_says_when_it_expired(tmp_path: Path) -> None:
    create(tmp_path)
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    end = datetime(2020, 1, 2, tzinfo=UTC)
    old = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    old = old.serial_number(1).not_valid_before(end - timedelta(1)).not_valid_after(end)
    text = old.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / CERTIFICATE).write_bytes(text)
    with pytest.raises(UsageError, match=r"tls\.crt expired on 2020-01-02"):
        named_security(tmp_path)


def test_a_scheduler_without_tls_is_not_connected_to() -> None:
    section = ClusterSection(kind="address", address="tcp://127.0.0.1:1")
    with Cluster(section) as handle, pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:1, which any user"):
        handle.client  # noqa: B018
