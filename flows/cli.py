"""The command `stillroom`. Exit codes: 0 done, 1 failed or defects found, 2 wrong usage or spec."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flows.consumer_commands import CONSUMER_COMMANDS
from flows.deploy_commands import DEPLOY_COMMANDS
from flows.output import DONE, FAILED, STOPPED, WRONG, emit, json_option
from flows.page_commands import PAGE_COMMANDS
from flows.registry_commands import REGISTRY_COMMANDS
from flows.service_commands import SERVICE_COMMANDS
from flows.store_commands import STORE_COMMANDS
from flows.study_commands import STUDY_COMMANDS
from infra.errors import CancelledError, StillroomError, UsageError
from infra.process_start import begin_process


class _Commands(click.Group):
    """Commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stillroom")
def cli() -> None:
    """Distil medical-image corpora and heavy teachers into small students that a clinic can run."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="Where to write the spec (default: ./NAME.yaml).")
@click.option("--quick", is_flag=True, help="Few views and steps: minutes instead of half an hour, worse students.")
@json_option
def init(folder: Path, to: Path | None, quick: bool, as_json: bool) -> None:
    """Look at FOLDER and write a commented spec for it."""
    from tasks.proposal.proposal import write_spec

    found = write_spec(folder, to, quick=quick)
    emit(found, as_json, lambda: click.echo(found["text"]))


@cli.command()
@json_option
def corpora(as_json: bool) -> None:
    """What each adapter expects on disk."""
    from tasks.corpora import descriptions

    known = descriptions()
    emit(known, as_json, lambda: click.echo("\n\n".join(f"{name}\n{text}" for name, text in known.items())))


def _spec_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--set", "overrides", multiple=True, metavar="A.B=V", help="Override a key of the spec.")(
        command
    )
    command = json_option(command)
    return click.argument("spec", type=click.Path(path_type=Path))(command)


@cli.command()
@_spec_options
def plan(spec: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what a run would do, cost and find; writes nothing."""
    from flows.line import line
    from tasks.planning.plan import plan_run, render_plan
    from tasks.spec import load_spec

    loaded = load_spec(spec, overrides)
    found = plan_run(loaded, line(loaded).steps)
    emit(found, as_json, lambda: click.echo(render_plan(found)))


def _flow_command(name: str, text: str) -> None:
    def run(
        spec: Path,
        overrides: tuple[str, ...],
        as_json: bool,
        verify: bool,
        retry_quarantined: bool,
        upto: str | None = None,
    ) -> None:
        from flows.running import run_flow, show_outcome

        extra = [f"run.verify={verify}"] * verify + ["run.retry_quarantined=true"] * retry_quarantined
        found = run_flow(name, spec, [*overrides, *extra], upto)
        emit(found, as_json, lambda: show_outcome(found))

    options: list[Callable[..., Any]] = [
        _spec_options,
        click.option("--verify", is_flag=True, help="Re-hash what is cached instead of trusting its size."),
        click.option("--retry-quarantined", is_flag=True, help="Try again what an earlier run kept out."),
    ]
    if name == "retrain":
        options.append(click.option("--upto", metavar="STAGE", help="The last stage to run, such as select."))
    command: Any = run
    for option in reversed(options):
        command = option(command)
    cli.command(name=name, help=text, short_help=text)(command)


_flow_command("retrain", "Run the whole line: ingest, label, distil, evaluate, register; cached.")
_flow_command("ingest", "Raw files to checked shards and a catalog.")
_flow_command("label", "Run the line up to the teachers' soft labels.")
_flow_command("distill", "Run the line up to the trained students.")
_flow_command("evaluate", "Run the line up to the report.")
_flow_command("register", "Run the line up to the registry (the same as retrain).")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True)
@json_option
def demo(out: Path, as_json: bool) -> None:
    """The whole line on the built-in phantom corpora."""
    from flows.demo import run_demo, show_demo

    found = run_demo(out)
    emit(found, as_json, lambda: show_demo(found))


for _command in (
    *STUDY_COMMANDS,
    *STORE_COMMANDS,
    *REGISTRY_COMMANDS,
    *CONSUMER_COMMANDS,
    *PAGE_COMMANDS,
    *DEPLOY_COMMANDS,
    *SERVICE_COMMANDS,
):
    cli.add_command(_command)


def main() -> None:
    """Entry point: errors become one line and an exit code."""
    begin_process()
    stopped = False
    try:
        cli.main(standalone_mode=False)
        code = DONE
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = WRONG
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"error: {STOPPED}", err=True)
        code = FAILED
    except UsageError as error:
        click.echo(f"error: {error}", err=True)
        code = WRONG
    except StillroomError as error:
        click.echo(f"error: {error}", err=True)
        code, stopped = FAILED, isinstance(error, CancelledError)
    if "prefect" not in sys.modules or stopped:
        # Threads of Arrow may abort an interpreter that is ending; nothing of ours is left to be closed by it. And who
        # asked a run to stop does not wait for threads that others left, nor for their memory to be freed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
