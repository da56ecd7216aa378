"""Passwords, keys and tokens where they would be kept: what stands in a spec goes to Prefect, manifests and messages.

Each refusal names the place and never the value.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from infra.errors import UsageError

_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]*@", re.IGNORECASE)
_NAMES = (
    r"(secret_?(access_?)?key|access_?key(_?id)?|password|passwd|passphrase|session_?token|security_?token|api_?key)"
)
_ASSIGNED = re.compile(rf"[A-Za-z0-9_.-]*{_NAMES}[A-Za-z0-9_]*['\"]?\s*[=:]\s*\S", re.IGNORECASE)
_SIGNED = re.compile(r"[?&](X-Amz-(Signature|Credential|Security-Token)|Signature|sig)=", re.IGNORECASE)
_AWS_ID = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b")
_KEY = re.compile(rf"[A-Za-z0-9_.-]*({_NAMES}|_token|^token$)", re.IGNORECASE)
_PEM = "PRIVATE KEY-----"

_REMEDY = (
    "it would be kept with the run; S3 takes keys from AWS_* variables or a profile, SSH from key files or its agent, "
    "Kubernetes from a secret (container.envFrom), MLflow from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
)


def has_secret(text: str) -> bool:
    """Whether a text holds a user name or password in an address, a signed address, or a key."""
    # An address may stand in the query of another one, where @ is written %40.
    return any(
        _PEM in form or any(pattern.search(form) for pattern in (_USERINFO, _ASSIGNED, _SIGNED, _AWS_ID))
        for form in (text, unquote(text))
    )


def refuse_secrets(values: Any, where: str = "") -> None:
    """Look through a spec before anything keeps it.

    Args:
        values: mappings, lists and scalars, as read from YAML.
        where: the key that they stand under.

    Raises:
        UsageError: a text holds a secret, or stands under a key that means one; the text names the key alone.
    """
    if isinstance(values, dict):
        for key, value in values.items():
            # A key itself may be pasted text.
            shown = str(key) if re.fullmatch(r"[\w.\-/]{1,60}", str(key)) and not has_secret(str(key)) else "(a key)"
            place = f"{where}.{shown}" if where else shown
            if isinstance(value, str) and value and _KEY.fullmatch(str(key)):
                raise UsageError(f"{place} is a secret, which has no place in a spec; {_REMEDY}")
            _refuse_entry(values, where)
            refuse_secrets(value, place)
    elif isinstance(values, list):
        for number, value in enumerate(values):
            refuse_secrets(value, f"{where}[{number}]")
    elif isinstance(values, str) and has_secret(values):
        raise UsageError(f"{where or 'the text'} holds a user name, password or key; {_REMEDY}")


def _refuse_entry(entry: dict[Any, Any], where: str) -> None:
    """The entry of an environment in Kubernetes: {name: AWS_SECRET_ACCESS_KEY, value: ...}."""
    if entry.get("value") and _KEY.fullmatch(str(entry.get("name", ""))):
        raise UsageError(f"{where}.value is a secret, which has no place in a spec; {_REMEDY}")
