"""The commands that look after a store: verify, repair, gc, forget, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO
from uuid import uuid4

import click

from flows.output import FAILED, emit, json_option
from flows.progress import bar
from infra.errors import UsageError
from infra.storage.store import Store, open_store

MEGABYTE = 10**6


@click.command()
@click.argument("store")
@json_option
def verify(store: str, as_json: bool) -> None:
    """Hold every object of STORE against its manifest; says which sample of which shard is hit."""
    from tasks.maintenance.formatting import verify_lines
    from tasks.maintenance.verify import verify as run

    with bar("verify, MB", MEGABYTE) as progress:
        verdict = run(existing_store(store), progress=progress)
    emit(verdict.to_json(), as_json, lambda: click.echo("\n".join(verify_lines(verdict))))
    if not verdict.sound:
        raise SystemExit(FAILED)


@click.command()
@click.argument("store")
@click.option("--root", help="Where the corpus lies, when it is not where the last ingest found it.")
@json_option
def repair(store: str, root: str | None, as_json: bool) -> None:
    """Make whole what is broken in STORE: shards from the source, the rest by the next retrain."""
    from infra.compute.cluster import Cluster
    from infra.compute.cluster_spec import ClusterSection
    from tasks.maintenance.formatting import repair_lines
    from tasks.maintenance.repair import repair as run
    from tasks.maintenance.under_way import RunRecord

    opened = existing_store(store)
    record = RunRecord(opened, f"repair-{uuid4().hex}", "repair")
    with bar("verify, MB", MEGABYTE) as progress, Cluster(ClusterSection()) as cluster, record:
        done = run(opened, cluster, root=root, progress=progress)
    emit(done.to_json(), as_json, lambda: click.echo("\n".join(repair_lines(done))))
    if not done.whole:
        raise SystemExit(FAILED)


@click.command()
@click.argument("store")
@click.option("--keep-days", default=14.0, show_default=True, help="Runs younger than that keep what they made.")
@click.option("--grace-hours", default=24.0, show_default=True, help="Nothing younger than that goes.")
@click.option("--delete", is_flag=True, help="Remove it; without, only list what would go.")
@click.option("--no-registry", is_flag=True, help="Do not ask MLflow what registered versions need.")
@click.option("--versions-deleted", is_flag=True, help="Versions that MLflow does not know were deleted on purpose.")
@json_option
def gc(
    store: str,
    keep_days: float,
    grace_hours: float,
    delete: bool,
    no_registry: bool,
    versions_deleted: bool,
    as_json: bool,
) -> None:
    """Find what no head, registered version or recent run of STORE needs; removes it only with --delete."""
    from flows.line import stages
    from tasks.maintenance.formatting import removal_lines
    from tasks.maintenance.gc import collect

    if keep_days < 0 or grace_hours < 0:
        raise UsageError("--keep-days and --grace-hours are at least 0")
    with bar("gc, objects") as progress:
        plan = collect(
            existing_store(store),
            folders=[folder for stage in stages() for folder in stage.folders],
            keep_days=keep_days,
            grace_hours=grace_hours,
            delete=delete,
            registry=not no_registry,
            versions_deleted=versions_deleted,
            progress=progress,
        ).to_json()
    emit(plan, as_json, lambda: click.echo("\n".join(removal_lines(plan))))


@click.command()
@click.argument("store")
@click.option("--patient", "patients", multiple=True, help="Erase the images of a patient, as the corpus names it.")
@click.option("--key", "keys", multiple=True, help="Erase an image, by its key or its path below the corpus's root.")
@click.option("--patients-from", type=click.File(encoding="utf-8"), help="A file with a patient a line; - for stdin.")
@click.option("--keys-from", type=click.File(encoding="utf-8"), help="A file with a key or path a line.")
@click.option("--corpus", help="The corpus that is meant, where several have such a patient or key.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option(
    "--relabel", type=click.Path(path_type=Path), metavar="SPEC", help="Then make soft labels again for SPEC."
)
@click.option("--set", "overrides", multiple=True, metavar="A.B=V", help="Override a key of that spec.")
@json_option
def forget(
    store: str,
    patients: tuple[str, ...],
    keys: tuple[str, ...],
    patients_from: TextIO | None,
    keys_from: TextIO | None,
    corpus: str | None,
    dry_run: bool,
    relabel: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Erase patients or images from STORE for good, keep them out, and list the models that learned of them.

    Without a patient or key it goes on with an erasure that was interrupted. Soft labels of images that were mixed with
    erased ones are made again by --relabel SPEC, or by the next run.
    """
    from tasks.maintenance.forgetting.forget import forget as run
    from tasks.maintenance.formatting import forget_lines

    opened = existing_store(store)
    if relabel is not None:
        _check_relabel(relabel, overrides, opened, dry_run)
    with bar("forget, objects") as progress:
        done = run(
            opened,
            patients=[*patients, *_lines(patients_from)],
            keys=[*keys, *_lines(keys_from)],
            corpus=corpus,
            dry=dry_run,
            progress=progress,
        ).to_json()
    if relabel is None:
        emit(done, as_json, lambda: click.echo("\n".join(forget_lines(done))))
        return
    from flows.running import run_flow, show_outcome

    if not as_json:
        click.echo("\n".join(forget_lines(done)))
    made = run_flow("label", relabel, list(overrides))
    emit({**done, "relabelled": made}, as_json, lambda: show_outcome(made))


def _check_relabel(spec: Path, overrides: tuple[str, ...], store: Store, dry_run: bool) -> None:
    """UsageError where labelling could not follow, before anything is erased."""
    from tasks.spec import load_spec

    if dry_run:
        raise UsageError("--dry-run erases nothing, so there is nothing to --relabel; leave one of them out")
    own = open_store(load_spec(spec, overrides).store).url
    if own != store.url:
        raise UsageError(f"--relabel {spec}: its store is {own}, not {store.url}; nothing was erased")


def _lines(file: TextIO | None) -> list[str]:
    return [line.strip() for line in file if line.strip()] if file is not None else []


@click.command()
@click.argument("store")
@click.argument("what", required=False)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a contact sheet of a corpus or shard, a PNG.")
@click.option("--parquet", type=click.Path(path_type=Path), help="Write a soft-label file as Parquet.")
@json_option
def inspect(store: str, what: str | None, sheet: Path | None, parquet: Path | None, as_json: bool) -> None:
    """Show STORE, or WHAT of it: a corpus, a key, a shard or a soft-label file, by name or part of it."""
    from tasks.maintenance.formatting import inspect_lines
    from tasks.maintenance.inspect import inspect as run
    from tasks.maintenance.inspect import write_parquet, write_sheet

    opened = existing_store(store)
    found = run(opened, what)
    if sheet is not None:
        write_sheet(opened, what, sheet)
    if parquet is not None:
        write_parquet(opened, what, parquet)
    emit(found, as_json, lambda: click.echo("\n".join(inspect_lines(found))))
    for path in (sheet, parquet):
        if path is not None:
            click.echo(f"wrote {path}", err=True)


STORE_COMMANDS = (verify, repair, gc, forget, inspect)


def existing_store(url: str) -> Store:
    """The store; UsageError when there is none, because a mistyped name would look like a store without a fault."""
    store = open_store(url)
    if not any(store.sizes(folder) for folder in ("heads/", "manifests/", "units/")):
        raise UsageError(f"{store.url}: no store: it has neither heads/, manifests/ nor units/")
    return store
