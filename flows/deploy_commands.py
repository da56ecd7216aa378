"""The commands that let specs run without a person: deploy, automate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from flows.output import emit, json_option
from flows.timetable import NIGHTLY, POLL_MINUTES, WEEKLY, Timetable


def timetable_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say when the flows of a spec run."""
    for option in (
        click.option("--paused", is_flag=True, help="Make them, and let no schedule fire until they are resumed."),
        click.option("--timezone", default="UTC", show_default=True, help="Of both crons, such as Europe/Berlin."),
        click.option("--verify-cron", default=WEEKLY, show_default=True, help="When stores are verified; '': by hand."),
        click.option(
            "--poll-minutes", default=POLL_MINUTES, show_default=True, help="Between looks for new files; 0: none."
        ),
        click.option("--cron", default=NIGHTLY, show_default=True, help="When specs are retrained; '': by hand."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@timetable_options
@click.option("--work-pool", help="Work pool for all of them (default: stillroom-cpu, or stillroom-gpu by the spec).")
@json_option
def deploy(
    specs: tuple[str, ...],
    cron: str,
    poll_minutes: float,
    verify_cron: str,
    timezone: str,
    paused: bool,
    work_pool: str | None,
    as_json: bool,
) -> None:
    """Put specs on a Prefect server as deployments: retrain, ingest of new files and verify on a schedule, promote."""
    from flows.deploying import deploy as run
    from flows.deploying import read_specs
    from flows.running import quiet_console
    from infra.servers.prefect_api import prefect_api

    found = read_specs(specs)
    quiet_console()
    with prefect_api() as url:
        made = run(found, Timetable(cron, verify_cron, poll_minutes, timezone, paused), work_pool)
    answer = {"prefect": url.removesuffix("/api"), "deployments": [one.to_json() for one in made]}
    emit(answer, as_json, lambda: click.echo("\n".join(deployed_lines(answer))))


def deployed_lines(answer: dict[str, Any]) -> list[str]:
    """One line for each deployment."""
    return [
        f"{'changed' if one['changed'] else 'made':<8} {one['name']:<28} {one['pool']:<14} {one['schedule']}"
        for one in answer["deployments"]
    ]


@click.command()
@click.option("--webhook", help="URL that gets a POST of JSON for every notice (default: Prefect's event feed alone).")
@json_option
def automate(webhook: str | None, as_json: bool) -> None:
    """Have the Prefect server tell of failures, refused or waiting students and drift, and mark dead runs Crashed."""
    from flows.automations import automate as run
    from flows.running import quiet_console
    from infra.servers.prefect_api import prefect_api

    quiet_console()
    with prefect_api():
        made = run(webhook)
    emit(
        {"automations": made},
        as_json,
        lambda: click.echo("\n".join(f"{'changed' if one['changed'] else 'made':<8} {one['name']}" for one in made)),
    )


DEPLOY_COMMANDS: tuple[click.Command, ...] = (deploy, automate)
