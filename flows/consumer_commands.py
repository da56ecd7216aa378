"""The commands of those who use a registered student: pull, predict, lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flows.output import FAILED, emit, json_option
from flows.progress import bar
from infra.errors import UsageError

MEGABYTE = 10**6


@click.command()
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--unverified", is_flag=True, help="Take a version of an older release, whose files nobody can check.")
@json_option
def pull(name: str, to: Path, unverified: bool, as_json: bool) -> None:
    """Make a folder of a registered student, each file checked.

    NAME is a model (its champion), NAME@ALIAS or NAME/VERSION.
    """
    from tasks.registry.pull import pull as run

    with bar("pull, MB", MEGABYTE) as progress:
        note, there = run(name, to, unverified=unverified, progress=progress)
    size = sum(each["bytes"] for each in note.files.values()) / MEGABYTE
    checked = "each as it was registered" if note.verified else "NOT VERIFIED: nobody knows what was registered"
    state = "is already" if there else "is now"
    emit(
        {**note.to_json(), "folder": str(to), "already_there": there},
        as_json,
        lambda: click.echo(
            f"{note.name} version {note.version} {state} in {to}: {len(note.files)} files, {size:.1f} MB, {checked}"
        ),
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print a header and a line an image.")
@json_option
def predict(folder: Path, images: tuple[str, ...], as_csv: bool, as_json: bool) -> None:
    """Let the student of FOLDER, which `pull` made, look at IMAGES: files, folders and patterns.

    An image that cannot be read has an error in its row; the others are done, and the exit code is 1.
    """
    from tasks.registry.predict import csv_line, find_files, load_pulled

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    files = find_files(images)
    student = load_pulled(folder)
    rows = []
    if as_csv:
        click.echo(csv_line(None, student.columns, student.classes))
    with bar("predict, images") as progress:
        for row in student.rows(files, progress):
            rows.append(row)
            if as_csv:
                click.echo(csv_line(row, student.columns, student.classes))
            elif not as_json:
                click.echo(_told(row))
    if as_json:
        emit({"name": student.name, "version": student.version, "rows": rows}, True, lambda: None)
    if failed := sum(row["error"] is not None for row in rows):
        click.echo(f"{failed} of {len(rows)} images cannot be used", err=True)
        raise SystemExit(FAILED)


def _told(row: dict[str, Any]) -> str:
    """One answer for people."""
    if row["error"] is not None:
        return f"{row['file']}: error: {row['error']}"
    parts = [f"{row['class'] or 'nothing found'} ({row['probability']:.3f})"]
    if row.get("p_referable") is not None:
        parts.append(f"P(referable) {row['p_referable']:.3f}")
    if row.get("refer") is not None:
        parts.append("refer" if row["refer"] else "do not refer")
    return f"{row['file']}: {', '.join(parts)}"


@click.command()
@click.argument("name")
@click.option("--store", help="The store that it was made in; without it nothing is verified.")
@json_option
def lineage(name: str, store: str | None, as_json: bool) -> None:
    """Show what a registered student was made of, down to its images, and verify every digest in its store.

    NAME is a model (its champion), NAME@ALIAS or NAME/VERSION.
    """
    from flows.store_commands import existing_store
    from tasks.registry.lineage import lineage as run
    from tasks.registry.lineage_text import lineage_lines

    opened = None if store is None else existing_store(store)
    with bar("lineage, MB", MEGABYTE) as progress:
        found = run(name, opened, progress)
    emit(found.to_json(), as_json, lambda: click.echo("\n".join(lineage_lines(found))))
    if not found.sound:
        raise SystemExit(FAILED)


CONSUMER_COMMANDS: tuple[click.Command, ...] = (pull, predict, lineage)
