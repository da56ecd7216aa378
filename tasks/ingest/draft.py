"""What an ingest is going to do: survey and parent together, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.errors import BudgetError
from infra.store import Store
from tasks.catalog import OK, QUARANTINED
from tasks.ingest.entries import NOT_READABLE, Entry, entry_of
from tasks.ingest.parent import Parent
from tasks.ingest.plan import Place, plan_shards
from tasks.ingest.shard import ShardJob
from tasks.ingest.splits import assign_splits, check_splits
from tasks.ingest.survey import Survey
from tasks.spec import IngestSection, Spec


@dataclass(frozen=True)
class Draft:
    """All rows with their splits, and the shards to make."""

    entries: list[Entry]
    jobs: list[ShardJob]
    removed: int  # images in shards whose file is gone
    changed: int  # images in shards whose file holds other bytes now


def place_of(spec: Spec, store: Store, found: Survey) -> Place:
    """Where the corpus's shards lie: a folder a section, so that sizes and qualities never mix."""
    recipe = {name: found.section["ingest"][name] for name in ("size", "encode", "quality")}
    return Place(store.url, spec.corpus.root.resolve(), shard_folder(spec.corpus.title, found.section), recipe)


def shard_folder(title: str, section: dict[str, object]) -> str:
    """Folder of the shards in the store."""
    from infra.digest import digest_of

    return f"shards/{title}/{digest_of(section)[:8]}"


def draft(spec: Spec, store: Store, found: Survey, parent: Parent, *, retry: bool = False) -> Draft:
    """Join survey and parent, assign splits, plan shards.

    Args:
        retry: ask files again that could not be read before.

    Raises:
        CorpusError: a split is empty, train lacks a class, or an official split changed.
        BudgetError: too many rows are at fault already.
    """
    entries = list(found.entries)
    changed = 0
    for entry in entries:
        before = parent.catalog.get(entry.key)
        if entry.key in parent.stored and before is not None:
            changed += _keep_stored(entry, before)
        elif before is not None and not retry:
            _keep_quarantined(entry, before)
    assign_splits(
        entries,
        spec.corpus.split,
        found.scan.official,
        stored={key: parent.catalog[key]["split"] for key in parent.stored},
        people=parent.people,
    )
    present = {entry.key for entry in entries}
    gone = [entry_of(parent.catalog[key]) for key in sorted(parent.stored - present)]
    entries += gone
    # The budget first: rows at fault are often why a split is empty.
    check_budget(entries, spec.ingest)
    check_splits(entries, found.scan.classes, spec.corpus.split)
    jobs = plan_shards(entries, parent, place_of(spec, store, found), spec.ingest.shard_size)
    return Draft(entries, jobs, len(gone), changed)


def _keep_stored(entry: Entry, before: dict[str, object]) -> bool:
    """What a shard holds stays usable; only its label may go. True when its file changed since."""
    row = entry.row
    if row.reason.startswith(NOT_READABLE):
        # The shard has its own copy.
        row.status, row.reason = OK, ""
    elif row.status != OK:
        row.status, row.reason = OK, f"label withdrawn: {row.reason}"
        row.label, row.labels = -1, (-1,) * len(row.labels) if row.labels is not None else None
    changed = entry.sha not in ("", before["source_sha256"])
    entry.sha = str(before["source_sha256"])
    entry.width, entry.height = int(before["width"]), int(before["height"])  # type: ignore[call-overload]
    return changed


def _keep_quarantined(entry: Entry, before: dict[str, object]) -> None:
    reason = str(before["reason"])
    same = before["status"] == QUARANTINED and before["source_sha256"] == entry.sha
    if entry.usable and same and reason.startswith(NOT_READABLE):
        entry.refuse(reason)


def check_budget(entries: Sequence[Entry], section: IngestSection, more: Sequence[str] = ()) -> None:
    """BudgetError, naming the first few, when more images are at fault than the spec allows.

    Args:
        more: images found at fault beside those of the entries, as messages.
    """
    images = sum(e.row.path is not None for e in entries)
    bad = [f"{e.shown}: {e.row.reason}" for e in entries if e.row.status == QUARANTINED]
    bad += more
    if len(bad) > section.max_bad and len(bad) > section.max_bad_share * images:
        raise BudgetError(
            f"{len(bad)} of {images} images are at fault, more than ingest.max_bad {section.max_bad} and "
            f"ingest.max_bad_share {section.max_bad_share} allow: {'; '.join(bad[:3])}; ..."
        )
