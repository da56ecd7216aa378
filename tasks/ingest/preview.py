"""What an ingest would do, without writing or decoding anything: for `stillroom plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.storage.stage_cache import StageCache
from infra.storage.store import MissingObjectError, Store
from tasks.ingest.draft import draft
from tasks.ingest.facts import facts_of, notes_of
from tasks.ingest.parent import Parent, read_head
from tasks.ingest.splits import check_splits
from tasks.ingest.survey import Found, survey, survey_of
from tasks.ingest.trust import mark_leaks
from tasks.spec import Spec


@dataclass(frozen=True)
class Preview:
    """An ingest that did not take place.

    `facts` are those of the manifest, as far as they are known before decoding; files that were never
    hashed (`unknown`) show no leak by equal bytes, and none shows a leak by a near twin. `source_bytes` counts
    the images still to be read.
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
    return preview_of(spec, store, survey_of(spec))


def preview_of(spec: Spec, store: Store, found: Found) -> Preview:
    """Like `preview`, of a corpus that its adapter has read."""
    head = read_head(store, spec.corpus.title)
    if head is not None and head.section != found.section:
        head = None
    try:
        parent = Parent.load(store, head)
    except MissingObjectError:
        head, parent = None, Parent()
    surveyed = survey(found, store, parent, dry=True)
    roll = surveyed.roll
    unknown = int((roll.usable & roll.where("source_sha256", "")).sum())
    same = head is not None and not unknown and head.inputs[0] == surveyed.digest
    lost = StageCache(store).missing(head.outputs) if head is not None else []
    draw = draft(surveyed, parent, spec.ingest)
    leaks = mark_leaks(roll)
    warnings = check_splits(roll, found.scan.classes, spec.corpus.split)
    facts = {
        **facts_of(found, roll, leaks),
        "removed": draw.removed,
        "changed": draw.changed,
        "notes": [*found.source.notes, *notes_of(found, warnings, draw.removed, draw.changed)],
    }
    split = roll.numbers("split")[draw.new]
    per_split = [int((split == code).sum()) for code in range(3)]
    return Preview(
        facts=facts,
        shards=sum(-(-n // spec.ingest.shard_size) for n in per_split) + sum(o.meta["kind"] == "shard" for o in lost),
        images=len(draw.new),
        source_bytes=int(roll.numbers("bytes")[draw.new].sum()),
        unknown=unknown,
        cached=same and not lost,
    )
