"""Running a flow from the command line: Prefect's API, tags, the outcome for people."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from infra.errors import CancelledError


def run_flow(name: str, spec: Path, overrides: list[str]) -> dict[str, Any]:
    """Run flow `name` on a spec; what `--json` prints.

    Raises:
        StillroomError: as the failing stage raised it.
    """
    from infra.servers.prefect_api import prefect_api
    from tasks.spec import load_spec

    load_spec(spec, overrides)
    with prefect_api() as url:
        return run_on_api(name, spec, overrides, url)


def run_on_api(name: str, spec: Path, overrides: list[str], url: str) -> dict[str, Any]:
    """Like `run_flow`, on an API that already answers."""
    quiet_console()
    from prefect import tags
    from prefect.client.schemas.objects import State

    from flows.line import listen
    from flows.terminal import TerminalListener
    from infra.servers.runs import process_tag, reap

    reap()
    terminal = TerminalListener()
    listen(terminal)
    terminal.say(f"{name} {spec}  (Prefect {url.removesuffix('/api')})")
    flow = getattr(importlib.import_module(f"flows.{'retrain' if name == 'register' else name}"), _function(name))
    try:
        with tags(process_tag()):
            found = flow(str(spec), list(overrides), return_state=True)
        value = found.result(raise_on_failure=False)
    finally:
        terminal.close()
    if found.is_cancelled() or isinstance(value, State):
        raise CancelledError("stopped on request; what was made stays in the store")
    if isinstance(value, BaseException):
        raise value
    return dict(value)


def _function(name: str) -> str:
    return "retrain" if name == "register" else name


def quiet_console() -> None:
    """Prefect's log goes to its API; the terminal shows our lines. Call before prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")
    if "prefect" in sys.modules and "PREFECT_LOGGING_SETUP" not in os.environ:
        import logging

        for handler in logging.getLogger("prefect").handlers:
            if type(handler).__name__ == "PrefectConsoleHandler":
                handler.setLevel(logging.ERROR)


def show_outcome(found: dict[str, Any]) -> None:
    """The result for people: the report's table and where to look."""
    if found["report"]:
        from flows.line import without_pictures

        click.echo(without_pictures(Path(found["report"]).read_text(encoding="utf-8")))
        click.echo(f"report: {found['report']}  (plots beside it)")
    version = found["results"].get("register")
    if version:
        click.echo(f"model:  {version['name']} version {version['version']} ({', '.join(version['aliases'])})")
    click.echo("pages:  stillroom up   (then Prefect and MLflow in the browser)")


def recent_runs(limit: int = 20) -> dict[str, Any]:
    """Recent flow runs, newest first, after dead ones were marked."""
    from infra.servers.prefect_api import prefect_api

    with prefect_api():
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.sorting import FlowRunSort

        from infra.servers.runs import reap

        reaped = reap()
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=limit)
            names = {run.flow_id: client.read_flow(run.flow_id).name for run in runs}
    return {
        "reaped": reaped,
        "runs": [
            {
                "name": run.name,
                "flow": names[run.flow_id],
                "state": run.state.name if run.state else "unknown",
                "started": run.start_time.isoformat() if run.start_time else None,
            }
            for run in runs
        ],
    }
