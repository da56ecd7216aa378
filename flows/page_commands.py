"""The command `stillroom page`: a registered student as one HTML file that runs in a browser, without a server."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from flows.output import emit, json_option


@click.command()
@click.argument("target")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder that gets index.html.")
@json_option
def page(target: str, to: Path, as_json: bool) -> None:
    """A page for a browser of a registered student: NAME, NAME@ALIAS or NAME/VERSION."""
    from tasks.page.build import page_of
    from tasks.registry.pull import pull

    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
        held, _ = pull(target, Path(folder) / "student")
        made = page_of(Path(folder) / "student", to, title=f"{held.name} version {held.version}")
    found = {"name": held.name, "version": held.version, "page": str(made.path), "bytes": made.bytes}
    emit(found, as_json, lambda: click.echo(f"{made.path} ({made.bytes / 1e6:.1f} MB): open it in a browser"))


PAGE_COMMANDS: tuple[click.Command, ...] = (page,)
