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
    """What a running `stillroom up` on this machine noted: `process` (its tag), `prefect`, `mlflow`; None: none is."""
    try:
        noted = json.loads(services_note().read_text())
        here = noted["process"].startswith(f"proc:{socket.gethostname()}:")
        # A note without the start time of its process may speak of another one that has its number by now.
        return dict(noted) if here and not is_dead(noted["process"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def served() -> str | None:
    """The API of a running `stillroom up` on this machine, if any."""
    noted = noted_services()
    return f"{noted['prefect']}/api" if noted else None


def server_auth() -> str:
    """The string `user:password` of the servers that we start: PREFECT_SERVER_API_AUTH_STRING, else that of the home.

    It is made once, at random, and lies in `auth_file()`, readable by its owner alone.
    """
    if own := os.environ.get(SERVER_AUTH):
        return own
    home_folder()
    path = auth_file()
    if not path.exists():
        new = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"stillroom:{secrets.token_urlsafe(32)}")
        try:
            os.link(new, path)  # whole or not at all, and the first one stays
        except FileExistsError:
            pass
        finally:
            new.unlink()
    text = path.read_text().strip()
    if path.stat().st_mode & 0o077 or ":" not in text:
        raise UsageError(f"{path} must be readable by you alone and hold user:password; delete it, it is made again")
    return text


def auth_file() -> Path:
    """Where the authentication string of this home's Prefect servers lies."""
    return settings().home.resolve() / "prefect-auth"
