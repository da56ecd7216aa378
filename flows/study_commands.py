"""The command `stillroom study`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.output import emit, json_option

if TYPE_CHECKING:
    from tasks.pipeline.surroundings import Surroundings


@click.command()
@click.argument("kind", type=click.Choice(["unlabeled", "guidance", "small-data"]))
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=V", help="Override a key of the spec.")
@click.option("--arms", help="Arms to compare, separated by commas, or all; default: those of the study.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Seeds of every arm, from 0 on.")
@click.option("--plan", is_flag=True, help="Say what would be trained and how long it takes; runs nothing.")
@json_option
def study(
    kind: str, spec: Path, overrides: tuple[str, ...], arms: str | None, seeds: int, plan: bool, as_json: bool
) -> None:
    """Compare what a paper compares: KIND is unlabeled (paper 1), guidance (2) or small-data (3)."""
    wanted = arms.split(",") if arms else []
    numbers = list(range(seeds))
    if plan:
        from flows.study_plan import plan_study, render_study_plan

        planned = plan_study(kind, spec, list(overrides), wanted, numbers)
        emit(planned, as_json, lambda: click.echo(render_study_plan(planned)))
        return
    found = run_study(kind, spec, list(overrides), wanted, numbers)
    emit(found, as_json, lambda: _show(found))


STUDY_COMMANDS: tuple[click.Command, ...] = (study,)


def run_study(kind: str, spec: Path, overrides: Sequence[str], arms: list[str], seeds: list[int]) -> dict[str, Any]:
    """Run the flow `study`, followed on the terminal; what `--json` prints.

    Raises:
        StillroomError: as the failing stage raised it.
    """
    from flows.running import on_terminal
    from infra.servers.prefect_api import prefect_api
    from tasks.spec import load_spec

    load_spec(spec, overrides)

    def run(around: Surroundings) -> dict[str, Any]:
        from flows.parameters import Override
        from flows.running import followed
        from flows.study import study as flow

        chosen = [Override.model_validate(text) for text in overrides]
        return followed(flow, around, kind, str(spec), chosen, arms, seeds)

    with prefect_api() as url:
        return on_terminal(f"study {kind} {spec}", url, run)


def _show(found: dict[str, Any]) -> None:
    click.echo(Path(found["outputs"]["report"]).read_text(encoding="utf-8"))
    for kind, place in found["outputs"].items():
        click.echo(f"{kind + ':':<9}{place}")
