"""What an ingest reports: facts, notes and quarantine of its manifest, and a preview of them for `stillroom plan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from infra.storage.manifest import Manifest, Output, Quarantined
from infra.storage.stage_cache import StageCache
from infra.storage.store import MissingObjectError, Store
from tasks.data.catalog import LEFT_OUT, MISSING, QUARANTINED, SPLITS
from tasks.ingest.corpus_listing import ListedCorpus, ScannedCorpus, list_corpus, scan_spec
from tasks.ingest.group_near import group_known, limit_for
from tasks.ingest.image_table import ImageTable
from tasks.ingest.ingest_plan import plan_ingest
from tasks.ingest.leakage import Leaks, equal_bytes, mark_leaks
from tasks.ingest.left_out import leave_out, not_known_yet
from tasks.ingest.near_groups import NearGroups
from tasks.ingest.overlay_counts import FACT as OVERLAYS
from tasks.ingest.overlay_counts import count_overlays, overlay_note, overlay_table
from tasks.ingest.parent import MIN_QUALITY, Parent, read_head
from tasks.ingest.shard import STAGE
from tasks.ingest.splits import check_splits, count_labels
from tasks.pipeline.stage import Artifact, slug
from tasks.spec import IngestSection, Spec

SHOWN_QUARANTINE = 500
SHOWN_SHARDS = 500
QUALITY = "quality"  # fact: how many stored images have a score, and its quantiles; not there where none has
_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def facts_of(scanned: ScannedCorpus, images: ImageTable, leaks: Leaks) -> dict[str, Any]:
    """Facts by name.

    corpus, task, classes, modality, private, size, crop; official: splits of the corpus's own; counts: split to
    class to labelled images; images: split to all images; unlabelled; leaks: images of val and test that also
    stand in train, leaks_by: patient, bytes or near twin; doubles: images whose bytes another image has too;
    left_out: images that the spec does not use, if
    there are such; missing: label rows without an image; quarantined; quality: how many stored images have a score
    (`tasks.ingest.image_quality`), and its quantiles; overlays: `tasks.ingest.overlay_counts.count_overlays`.
    """
    scan, corpus, how = scanned.scan, scanned.corpus, scanned.section["ingest"]
    return {
        "corpus": corpus.title,
        "task": scan.task,
        "classes": list(scan.classes),
        "modality": scan.modality,
        "private": corpus.private,
        "size": how["size"],
        "crop": how["crop"],
        "official": sorted(scan.official),
        **({MIN_QUALITY: corpus.min_quality} if corpus.min_quality is not None else {}),
        **counts_of(images, scan.classes, leaks),
    }


def counts_of(images: ImageTable, classes: Sequence[str], leaks: Leaks) -> dict[str, Any]:
    """Those of the facts that count images."""
    stored = images.usable
    split = images.numbers("split")
    groups = equal_bytes(images, stored)
    return {
        "counts": count_labels(images, classes),
        "images": {name: int((stored & (split == i)).sum()) for i, name in enumerate(SPLITS)},
        "unlabelled": int((stored & ~images.labelled).sum()),
        "leaks": leaks.images,
        "leaks_by": leaks.to_json(),
        "doubles": int((groups >= 0).sum()) - len(np.unique(groups[groups >= 0])),
        **({"left_out": left_out} if (left_out := int(images.where("status", LEFT_OUT).sum())) else {}),
        "missing": int(images.where("status", MISSING).sum()),
        "quarantined": int(images.where("status", QUARANTINED).sum()),
        **_quality(images, stored),
        **({OVERLAYS: overlays} if (overlays := count_overlays(images, classes)) else {}),
    }


def _quality(images: ImageTable, stored: np.ndarray) -> dict[str, Any]:
    known = images.numbers("quality")[stored]
    known = known[~np.isnan(known)]
    if not len(known):
        return {}
    found = np.quantile(known, _QUANTILES, method="lower")
    shown = {str(share): round(float(value), 3) for share, value in zip(_QUANTILES, found, strict=True)}
    return {QUALITY: {"images": len(known), "quantiles": shown}}


def quarantine_of(images: ImageTable) -> list[Quarantined]:
    """Images that are not stored, and why; by path, or by keyed hash where private."""
    rows = images.where("status", QUARANTINED)
    found = sorted(images.first_rows(("display_name", "key", "reason"), limit=len(images), rows=rows))
    return [Quarantined(source=name, reason=reason, stage=STAGE) for name, _, reason in found]


def tables_of(title: str, manifest: Manifest) -> list[Artifact]:
    """What people are shown of an ingest: what is kept out, and where it was looked for, text and boxes by class."""
    overlays = manifest.facts.get(OVERLAYS)
    shown = [shard_table(title, manifest.outputs_where(kind="shard")), quarantine_table(title, manifest.quarantine)]
    return [*shown, *([overlay_table(title, overlays)] if overlays else [])]


def shard_table(title: str, shards: Sequence[Output]) -> Artifact:
    """The stored images for people, by shard; the newest last."""
    rows = [
        {
            "shard": shard.name.rpartition("/")[2],
            "split": str(shard.meta["split"]),
            "images": str(shard.samples),
            "size": _size(shard.bytes),
        }
        for shard in shards[-SHOWN_SHARDS:]
    ]
    more = f"; the last {SHOWN_SHARDS} are shown" if len(shards) > SHOWN_SHARDS else ""
    images, size = sum(shard.samples for shard in shards), sum(shard.bytes for shard in shards)
    by_split = Counter[str]()
    for shard in shards:
        by_split[str(shard.meta["split"])] += shard.samples
    splits = ", ".join(f"{count:,} {split}" for split, count in by_split.items())
    return Artifact(
        key=f"shards-{slug(title)}",
        description=f"{images:,} images ({splits}) in {len(shards):,} shards, {_size(size)}{more}",
        content=rows,
    )


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def quarantine_table(title: str, quarantine: Sequence[Quarantined]) -> Artifact:
    """The quarantine for people."""
    rows = [{"source": row.source, "reason": row.reason} for row in quarantine[:SHOWN_QUARANTINE]]
    more = f"; the first {SHOWN_QUARANTINE} are shown" if len(quarantine) > SHOWN_QUARANTINE else ""
    return Artifact(
        key=f"quarantine-{slug(title)}",
        description=f"{len(quarantine)} of {title}'s files are kept out{more}",
        content=rows or [{"source": "none", "reason": "every image could be read"}],
    )


def notes_of(listed: ListedCorpus, warnings: Sequence[str], removed: int, changed: int) -> list[str]:
    """Sentences for people."""
    notes = [*listed.scanned.scan.notes, *warnings]
    if listed.erased:
        notes.append(f"{listed.erased} images or rows were erased from the store by request and are left out")
    if removed:
        notes.append(f"{removed} images are no longer in the folder; their shards keep them")
    if changed:
        notes.append(f"{changed} files hold other bytes than when they were ingested; their shards keep the old ones")
    return notes


def stored_notes(images: ImageTable, scanned: ScannedCorpus, several: int) -> list[str]:
    """Sentences for people on what the stored images were found to have.

    Args:
        several: how many of the sources have more than one page or frame.
    """
    pages = f"{several} files have several pages or frames; the first of each is stored, the others are left out"
    return [*([pages] if several else []), *overlay_note(count_overlays(images, scanned.scan.classes))]


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
    to_hash: int = 0  # images whose pictures are read once more, to find near duplicates


def preview(spec: Spec, store: Store, number: int = 0) -> Preview:
    """List a corpus of the spec, by its place there, and plan.

    Raises:
        CorpusError, BudgetError: as `ingest` would, before decoding.
    """
    return preview_of(scan_spec(spec, number), spec.ingest_of(number), store, alone=not spec.entries)


def preview_of(scanned: ScannedCorpus, section: IngestSection, store: Store, *, alone: bool = True) -> Preview:
    """Like `preview`, of a corpus that its adapter has read; `alone` as of `check_splits`."""
    corpus = scanned.corpus
    head = read_head(store, corpus.title)
    if head is not None and head.section != scanned.section:
        head = None
    try:
        parent = Parent.load(store, head)
    except MissingObjectError:
        head, parent = None, Parent()
    listed = list_corpus(scanned, store, parent, dry=True)
    images = listed.images
    unknown = int((images.usable & images.where("source_sha256", "")).sum())
    same = head is not None and not unknown and head.inputs[0] == listed.digest
    lost = StageCache(store).missing(head.outputs) if head is not None else []
    limit = limit_for(listed, parent)
    find = None if limit is None else partial(group_known, store, listed, parent, section, limit)
    plan = plan_ingest(listed, parent, section, alone=alone, group_near=find)
    unread = np.zeros(len(images), bool)
    unread[plan.new] = True
    warnings = [] if not_known_yet(images, corpus, unread) else leave_out(images, corpus)
    leaks = mark_leaks(images)
    warnings += check_splits(images, scanned.scan.classes, corpus.split, alone=alone)
    facts = {
        **facts_of(listed.scanned, images, leaks),
        "removed": plan.removed,
        "changed": plan.changed,
        "notes": [*notes_of(listed, warnings, plan.removed, plan.changed), *_near_notes(plan.near)],
    }
    split = images.numbers("split")[plan.new]
    per_split = [int((split == code).sum()) for code in range(3)]
    return Preview(
        facts=facts,
        shards=sum(-(-n // section.shard_size) for n in per_split) + sum(o.meta["kind"] == "shard" for o in lost),
        images=len(plan.new),
        source_bytes=int(images.numbers("bytes")[plan.new].sum()),
        unknown=unknown,
        cached=same and not lost,
        to_hash=plan.near.unknown if plan.near is not None else 0,
    )


def _near_notes(near: NearGroups | None) -> list[str]:
    if near is None:
        return []
    if not near.unknown:
        return near.notes
    return [
        *near.notes,
        f"{near.unknown} images without a patient are looked at for near duplicates before they are split; shares may "
        "then differ a little from these",
    ]
