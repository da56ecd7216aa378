"""Running a flow from the command line: Prefect's API, tags, the outcome for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flows.output import STOPPED
from infra.errors import CancelledError
from tasks.pipeline.surroundings import SURROUNDINGS, Surroundings

LAST = "register"
"""The stage with which the line ends."""


def run_flow(name: str, spec: Path, overrides: list[str], upto: str | None = None) -> dict[str, Any]:
    """Run the line on a spec as a flow; what `--json` prints.

    Args:
        name: of the command: `retrain`, or the stage up to which the line runs.
        upto: the last stage; default: as the name says.

    Raises:
        StillroomError: as the failing stage raised it.
    """
    from infra.servers.prefect_api import prefect_api
    from infra.servers.tracking_check import check_reachable
    from tasks.spec import load_spec

    load_spec(spec, overrides)
    if (upto or name) in (LAST, "retrain"):
        check_reachable()
    with prefect_api() as url:
        return run_on_api(name, spec, overrides, url, upto)


def run_on_api(name: str, spec: Path, overrides: list[str], url: str, upto: str | None = None) -> dict[str, Any]:
    """Like `run_flow`, on an API that already answers."""
    return on_terminal(f"{name} {spec}", url, lambda around: run_followed(name, spec, overrides, around, upto))


def on_terminal(title: str, url: str, run: Callable[[Surroundings], dict[str, Any]]) -> dict[str, Any]:
    """Run with the terminal as listener; an interrupt asks the run to stop.

    Args:
        title: of the run, for people.
        url: of Prefect's API, which answers.
    """
    quiet_console()
    from flows.interrupts import Interrupts
    from flows.terminal import TerminalListener
    from infra.servers.flow_runs import mark_cancelled, mark_dead_runs_crashed
    from infra.servers.process_tag import process_tag

    mark_dead_runs_crashed()
    terminal = TerminalListener()
    terminal.message(f"{title}  (Prefect {url.removesuffix('/api')})")
    try:
        with Interrupts(lambda: mark_cancelled(process_tag())) as interrupts:
            return run(Surroundings(terminal, stop=interrupts.requested, stopping=interrupts.request))
    finally:
        terminal.close()


def run_followed(
    name: str, spec: Path, overrides: list[str], around: Surroundings, upto: str | None = None
) -> dict[str, Any]:
    """Run the flow in this thread, followed by the listener of `around`; arguments and errors as `run_flow`."""
    from flows.parameters import Override
    from flows.retrain import retrain

    upto = upto or (LAST if name == "retrain" else name)
    # Up to its last stage the line is a retrain, whatever the command is called.
    flow = retrain if upto == LAST else retrain.with_options(name=name)
    chosen = [Override.model_validate(text) for text in overrides]
    return followed(flow, around, str(spec), chosen, upto=upto)


def followed(flow: Any, around: Surroundings, *arguments: Any, **named: Any) -> dict[str, Any]:
    """Run a flow of ours in this thread, tagged with this process.

    Raises:
        CancelledError: it was asked to stop.
        StillroomError: as the flow raised it.
    """
    from prefect import tags

    from infra.servers.process_tag import process_tag

    before = SURROUNDINGS.set(around)
    try:
        with tags(process_tag()):
            return result_of(flow(*arguments, **named, return_state=True))
    finally:
        SURROUNDINGS.reset(before)


def result_of(found: Any) -> dict[str, Any]:
    """What a flow of ours returned, by the state that it ended in; raises as `followed`."""
    from prefect.client.schemas.objects import State

    value = found.result(raise_on_failure=False)
    if found.is_cancelled() or isinstance(value, State):
        raise CancelledError(STOPPED)
    if isinstance(value, BaseException):
        raise value
    return dict(value)


def quiet_console() -> None:
    """Prefect's log goes to its API; the terminal shows our lines. Call before prefect is imported."""
    # Also its errors: what ends a flow is raised, and the command prints it, in one line where it is ours.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if "prefect" in sys.modules and "PREFECT_LOGGING_SETUP" not in os.environ:
        import logging

        for handler in logging.getLogger("prefect").handlers:
            if type(handler).__name__ == "PrefectConsoleHandler":
                handler.setLevel(logging.CRITICAL)


def show_outcome(found: dict[str, Any]) -> None:
    """The result for people: the report's table and where to look."""
    if found["report"]:
        from flows.report_page import without_plots

        click.echo(without_plots(Path(found["report"]).read_text(encoding="utf-8")))
        click.echo(f"report: {found['report']}  (plots beside it)")
    version = found["results"].get("register")
    if version:
        aliases = ", ".join(version["aliases"]) or "no alias"
        click.echo(f"model:  {version['name']} version {version['version']} ({aliases}): {version['reason']}")
    click.echo("pages:  stillroom up   (then Prefect and MLflow in the browser)")
