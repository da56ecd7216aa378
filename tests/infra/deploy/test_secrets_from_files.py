"""Secrets of services: drawn once into files, handed to programs in their environment."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.compute.certificates import check
from infra.deploy.prepare import SECRETS, prepare
from infra.deploy.with_secrets import with_secrets
from infra.errors import UsageError


def test_a_program_finds_the_text_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("ab c\n")
    code = "import os; print(os.environ['PASS'], 'PASS__FILE' in os.environ)"
    done = subprocess.run(
        [sys.executable, "-m", "infra.deploy.with_secrets", sys.executable, "-c", code],
        env={**os.environ, "PASS__FILE": str(tmp_path / "password")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ab c False\n"


def test_variables_of_others_stay() -> None:
    assert with_secrets({"SSL_CERT_FILE": "/x", "POSTGRES_PASSWORD_FILE": "/y"}) == {
        "SSL_CERT_FILE": "/x",
        "POSTGRES_PASSWORD_FILE": "/y",
    }


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"PASS__FILE: {tmp_path}/none cannot be read .* infra\.deploy\.prepare"):
        with_secrets({"PASS__FILE": f"{tmp_path}/none"})


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        with_secrets({"PASS__FILE": f"{tmp_path}/password"})


def test_a_secret_given_both_ways_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="PASS and PASS__FILE are both set") as caught:
        with_secrets({"PASS": "hunter2", "PASS__FILE": f"{tmp_path}/x"})
    assert "hunter2" not in str(caught.value)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the compose file needs it."""
    return prepare(tmp_path_factory.mktemp("prepared") / "data").parent


def test_secrets_are_their_owners_alone_and_none_is_like_another(prepared: Path) -> None:
    files = [path for path in (prepared / "secrets").iterdir() if path.is_file()]
    assert {path.name for path in files} > SECRETS.keys()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert stat.S_IMODE((prepared / "secrets").stat().st_mode) == 0o700
    texts = [path.read_text().strip() for path in files]
    assert len(set(texts)) == len(texts)
    assert min(map(len, texts)) >= 40


def test_the_keys_of_an_s3_server_are_those_of_its_clients(prepared: Path) -> None:
    held = prepared / "secrets"
    access, secret = ((held / f"store-{part}-key").read_text().strip() for part in ("access", "secret"))
    assert (held / "store-rclone-keys").read_text() == f'"{access},{secret}"\n'
    assert (held / "artifacts-secret-key").read_text().strip() != secret


def test_dask_can_use_the_certificates(prepared: Path) -> None:
    check(prepared / "secrets" / "dask-tls")


def test_a_second_call_changes_nothing(prepared: Path) -> None:
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    prepare(prepared)
    assert {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()} == before


def test_half_a_pair_of_certificates_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path / "data")
    (tmp_path / "data" / "secrets" / "dask-tls" / "tls.key").unlink()
    with pytest.raises(UsageError, match="only some of its three files"):
        prepare(tmp_path / "data")
