"""Make what the compose file needs on a machine: `python -m infra.deploy.prepare FOLDER`.

Folders for databases, buckets and homes; a file for each secret, drawn at random; certificates for Dask; and
`compose.env`, which names folder and user. What is there already stays, so that a second call, after an update, adds
only what is new. Everything belongs to the user who calls it (0700, 0600), as whom the containers run.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from infra.compute.certificates import AUTHORITY, CERTIFICATE, KEY, create
from infra.errors import UsageError
from infra.private_files import private_folder

FOLDERS = (
    "secrets",
    "prefect-db",
    "prefect-home",
    "mlflow-db",
    "store-s3/stillroom",
    "artifacts-s3/mlflow",
    "worker-home",
    "worker-home-gpu",
    "scratch/cpu",
    "scratch/gpu",
    "corpora",
)
"""Of databases, buckets (a folder below an S3 server's is a bucket), homes of services, what workers spill, corpora."""

TLS = "dask-tls"
ENVIRONMENT = "compose.env"


def _token() -> str:
    return secrets.token_urlsafe(32)


def _key() -> str:
    # Letters and digits: signatures of S3 and its configuration files know no others for certain.
    return secrets.token_hex(20)


SECRETS: dict[str, Callable[[], str]] = {
    "prefect-db-password": _token,
    "mlflow-db-password": _token,
    "prefect-auth": lambda: f"stillroom:{_token()}",
    "mlflow-admin-password": _token,
    "mlflow-line-password": _token,
    "mlflow-session-key": _token,
    "corpora-secret": _token,
}
"""Name of the file to how its text is drawn; keys of S3 come in pairs (`_keys`)."""

PAIRS = ("store", "artifacts")
"""S3 servers, each with keys of its own: who has MLflow's cannot read images."""


def prepare(folder: Path) -> Path:
    """Make what is missing below a folder; returns the file for `docker compose --env-file`.

    Raises:
        UsageError: some of the certificates are missing.
    """
    folder = folder.expanduser().absolute()
    for name in FOLDERS:
        private_folder(folder / name)
    held = folder / "secrets"
    for name, draw in SECRETS.items():
        _write(held / name, draw)
    for pair in PAIRS:
        _keys(held, pair)
    present = [(held / TLS / name).exists() for name in (AUTHORITY, CERTIFICATE, KEY)]
    if not any(present):
        create(held / TLS)
    elif not all(present):
        raise UsageError(f"{held / TLS} has only some of its three files; remove them, they are made again together")
    environment = folder / ENVIRONMENT
    _write(
        environment,
        lambda: f"STILLROOM_DATA={folder}\nSTILLROOM_UID={os.getuid()}\nSTILLROOM_GID={os.getgid()}",
    )
    return environment


def _keys(held: Path, pair: str) -> None:
    """Key and secret key of an S3 server, and both as rclone reads them."""
    _write(held / f"{pair}-access-key", _key)
    _write(held / f"{pair}-secret-key", _key)
    both = [(held / f"{pair}-{part}-key").read_text(encoding="utf-8").strip() for part in ("access", "secret")]
    # A list of pairs as CSV, whence the quotation marks.
    _write(held / f"{pair}-rclone-keys", lambda: f'"{",".join(both)}"')


def _write(path: Path, draw: Callable[[], str]) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{draw()}\n")


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise UsageError("name the folder: python -m infra.deploy.prepare FOLDER")
        if os.getuid() == 0:
            raise UsageError("containers run as the user who prepares the folder, and that must not be root")
        print(f"docker compose --env-file {prepare(Path(sys.argv[1]))} --file infra/deploy/compose.yaml up --detach")
    except UsageError as wrong:
        sys.exit(f"error: {wrong}")
