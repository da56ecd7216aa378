"""The certificates by which scheduler, workers and clients of a Dask cluster know each other.

A cluster on this machine gets a pair that lives in memory and ends with it. Processes on other machines read theirs
from a folder of three files, named as Kubernetes names them in a secret. Each side shows its certificate and asks for
the other's, so a process without the key can neither submit work nor listen.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from infra.settings import settings

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
_FOLDER = "dask-tls"

DAYS = 365
"""That certificates are valid which people copy to their machines."""


def default_folder() -> Path:
    """Where the files of a cluster on other machines lie when the spec names no folder."""
    return settings().home.expanduser().resolve() / _FOLDER


def temporary_security() -> Any:
    """A `distributed.Security` with a new key of its own, in memory alone."""
    from distributed.security import Security

    return Security.temporary()


def named_security(folder: Path) -> Any:
    """A `distributed.Security` that reads the files of a folder.

    Raises:
        UsageError: a file is missing, is no certificate or has expired, or others than the owner may read the key.
    """
    from distributed.security import Security

    check(folder)
    authority, certificate, key = (str(folder / name) for name in (AUTHORITY, CERTIFICATE, KEY))
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=authority,
        **{f"tls_{role}_cert": certificate for role in roles},
        **{f"tls_{role}_key": key for role in roles},
    )


def check(folder: Path) -> None:
    """UsageError when the three files of a folder cannot serve."""
    from cryptography import x509

    for name in (AUTHORITY, CERTIFICATE, KEY):
        if not (folder / name).is_file():
            raise UsageError(
                f"Dask on other machines needs TLS, and there is no {folder / name}; make the files with "
                f"`python -m infra.compute.certificates {folder}` (on machines without this folder: copy it there), "
                "or name another folder in run.cluster.tls"
            )
    if (mode := (folder / KEY).stat().st_mode & 0o777) & 0o077:
        raise UsageError(f"{folder / KEY} may be read by others (mode {mode:04o}); chmod 600 it")
    try:
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except ValueError:
        raise UsageError(f"{folder / CERTIFICATE} is no certificate in PEM form") from None
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise UsageError(
            f"{folder / CERTIFICATE} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; remove the three files and "
            f"make new ones with `python -m infra.compute.certificates {folder}`"
        )


def create(folder: Path, days: int = DAYS) -> None:
    """Write a new certificate, its own authority, and its key.

    Args:
        days: that it is valid.

    Raises:
        UsageError: one of the files is there already.
    """
    certificate, key = _drawn(days)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in ((AUTHORITY, certificate), (CERTIFICATE, certificate), (KEY, key)):
        try:
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"there is a file {folder / name} already; remove it, or choose another folder") from None
        with os.fdopen(handle, "wb") as file:
            file.write(text)


def renew(folder: Path, days: int) -> None:
    """Like `create`, in place of the files that are there: who knew the old key is let in no more."""
    for name in (AUTHORITY, CERTIFICATE, KEY):
        (folder / name).unlink(missing_ok=True)
    create(folder, days)


def _drawn(days: int) -> tuple[bytes, bytes]:
    """A certificate that is its own authority, and its key, both in PEM form."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stillroom-dask")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of machines differ.
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(serialization.Encoding.PEM), text


if __name__ == "__main__":
    try:
        create(Path(sys.argv[1]).expanduser() if len(sys.argv) > 1 else default_folder())
    except UsageError as error:
        sys.exit(f"error: {error}")
