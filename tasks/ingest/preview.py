"""What an ingest would do, without writing or decoding anything: for `stillroom plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.cache import StageCache
from infra.store import MissingObjectError, Store
from tasks.ingest.draft import draft
from tasks.ingest.facts import facts_of, notes_of
from tasks.ingest.parent import Parent, read_head
from tasks.ingest.splits import check_splits, mark_leaks
from tasks.ingest.survey import scan_corpus, survey
from tasks.spec import Spec


@dataclass(frozen=True)
class Preview:
    """An ingest that did not take place.

    `facts` are those of the manifest, as far as they are known before decoding; files that were never
    hashed (`unknown`) show no leak by equal bytes. `source_bytes` counts the images still to be read.
    """

    facts: dict[str, Any]
    shards: int  # to make
    images: int  # in those shards
    source_bytes: int
    unknown: int  # images that the listing does not know yet
    cached: bool  # nothing to do


def preview(spec: Spec, store: Store) -> Preview:
    """Survey and plan.

    Raises:
        CorpusError, BudgetError: as `ingest` would, before decoding.
    """
    scan, section = scan_corpus(spec)
    head = read_head(store, spec.corpus.title)
    if head is not None and head.section != section:
        head = None
    try:
        parent = Parent.load(store, head)
    except MissingObjectError:
        head, parent = None, Parent()
    found = survey(spec, store, scan, section, parent.keys_by_source, dry=True)
    unknown = sum(e.usable and not e.sha for e in found.entries)
    same = head is not None and not unknown and head.inputs[0] == found.source
    lost = StageCache(store).missing(head.outputs) if head is not None else []
    plan = draft(spec, store, found, parent)
    mark_leaks(plan.entries)
    warnings = check_splits(plan.entries, scan.classes, spec.corpus.split)
    facts = {
        **facts_of(found, plan.entries),
        "removed": plan.removed,
        "changed": plan.changed,
        "notes": notes_of(found, warnings, plan.removed, plan.changed),
    }
    items = [item for job in plan.jobs for item in job.items]
    return Preview(
        facts=facts,
        shards=len(plan.jobs) + sum(o.meta["kind"] == "shard" for o in lost),
        images=len(items),
        source_bytes=sum((spec.corpus.root / item.path).stat().st_size for item in items),
        unknown=unknown,
        cached=same and not lost,
    )
