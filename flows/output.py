"""What every command prints with, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

DONE, FAILED, WRONG = 0, 1, 2

STOPPED = "stopped on request; what was made stays in the store"

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")


def emit(found: Any, as_json: bool, show: Callable[[], Any]) -> None:
    """Print a result as JSON, or as `show` does for people."""
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False))
    else:
        show()
