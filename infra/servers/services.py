"""What this home knows of the servers that it starts: who runs `stillroom up`, and what Prefect's API wants to hear."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path

from infra.errors import UsageError
from infra.servers.process_tag import is_dead
from infra.settings import home_folder, settings

SERVER_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
"""Environment variable of Prefect's server: the authentication string of those who may ask it."""


def services_note() -> Path:
    """The file in which `stillroom up` writes its process id and addresses."""
    return settings().home.resolve() / "services.json"


def noted_services() -> dict[str, str] | None:
    """What a running `stillroom up` on this machine noted; None: none is.

    `process` (its tag), `page`, and where pages and APIs are: `prefect`, `mlflow`, `api` (Prefect's), `own_api` (the
    same, "" where that server is somebody else's).
    """
    try:
        noted = json.loads(services_note().read_text())
        here = noted["process"].startswith(f"proc:{socket.gethostname()}:")
        # A note without the start time of its process may speak of another one that has its number by now.
        return dict(noted) if here and not is_dead(noted["process"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def served() -> str | None:
    """The API that a running `stillroom up` on this machine serves, if any; it asks for `server_auth()`."""
    return (noted_services() or {}).get("own_api") or None


def used_api() -> str | None:
    """The API of somebody else that a running `stillroom up` on this machine works for, if any."""
    noted = noted_services() or {}
    return None if noted.get("own_api") else noted.get("api")


def server_auth() -> str:
    """The string `user:password` of the servers that we start: PREFECT_SERVER_API_AUTH_STRING, else that of the home.

    It is made once, at random, and lies in `auth_file()`, readable by its owner alone.
    """
    if own := os.environ.get(SERVER_AUTH):
        return own
    path = auth_file()
    text = _drawn(path, "stillroom:")
    if path.stat().st_mode & 0o077 or ":" not in text:
        raise UsageError(f"{path} must be readable by you alone and hold user:password; delete it, it is made again")
    return text


def auth_file() -> Path:
    """Where the authentication string of this home's Prefect servers lies."""
    return settings().home.resolve() / "prefect-auth"


def page_key() -> str:
    """The secret by which `stillroom up` knows addresses that this home has made; drawn once, readable by its owner."""
    return _drawn(settings().home.resolve() / "page-key", "")


def _drawn(path: Path, prefix: str) -> str:
    """The text of a file of the home, drawn at random where there is none."""
    home_folder()
    if not path.exists():
        new = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{prefix}{secrets.token_urlsafe(32)}")
        try:
            os.link(new, path)  # whole or not at all, and the first one stays
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text().strip()
