"""The files of infra/deploy as tests read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "deploy"
GIVEN = {"STILLROOM_DATA": "/data", "STILLROOM_UID": "1000", "STILLROOM_GID": "1000"}
"""What `infra.deploy.prepare` writes to the environment file."""

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])((?:[^{}]|\$\{[^{}]*\})*))?\}")


def filled(text: str, given: Mapping[str, str]) -> str:
    """A text with its `${NAME}`, `${NAME:-default}` and `${NAME:?message}` filled in, as by `docker compose`.

    Raises:
        KeyError: a variable without a default is not given.
    """

    def value(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        if how == "-" and not given.get(name):
            return filled(rest, given)
        return given[name]

    return _VARIABLE.sub(value, text)


def compose(given: Mapping[str, str] = GIVEN) -> dict[str, Any]:
    """The compose file with variables filled in."""
    found: dict[str, Any] = yaml.safe_load(filled((DEPLOY / "compose.yaml").read_text(encoding="utf-8"), given))
    return found


def documents(name: str) -> list[dict[str, Any]]:
    """The resources or values of a file of infra/deploy/kubernetes."""
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")))
