"""The commands that move the champion of a registered model: promote, rollback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from flows.output import emit, json_option

if TYPE_CHECKING:
    from tasks.register.aliases import AliasMove


def _who(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--reason", required=True, help="Why; recorded in the registry.")(command)
    command = click.option("--by", required=True, help="Who decides it; recorded in the registry.")(command)
    return click.argument("name")(json_option(command))


@click.command()
@_who
@click.option("--version", required=True, help="The version of the model, such as 3.")
@click.option("--overrule", is_flag=True, help="Promote it although somebody refused it.")
def promote(name: str, version: str, overrule: bool, by: str, reason: str, as_json: bool) -> None:
    """Make a version of the registered model NAME its champion, if it passed the gate."""
    from tasks.register.champion import promote as run

    _tell(name, run(name, version, by=by, reason=reason, overrule=overrule), as_json)


@click.command()
@_who
def rollback(name: str, by: str, reason: str, as_json: bool) -> None:
    """Give the alias champion of NAME back to the version that had it before."""
    from tasks.register.champion import rollback as run

    _tell(name, run(name, by=by, reason=reason), as_json)


REGISTRY_COMMANDS: tuple[click.Command, ...] = (promote, rollback)


def _tell(name: str, move: AliasMove, as_json: bool) -> None:
    found: dict[str, Any] = {"name": name, **move.to_json()}
    was = f"version {move.before}" if move.before else "nobody"
    emit(found, as_json, lambda: click.echo(f"{name}: the champion is version {move.version}, it was {was}"))
