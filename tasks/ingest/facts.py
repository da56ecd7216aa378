"""What an ingest tells in its manifest: counts worth reading, and what is kept out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from infra.manifest import Quarantined
from tasks.catalog import MISSING, QUARANTINED, SPLITS
from tasks.ingest.entries import Entry
from tasks.ingest.shard import STAGE
from tasks.ingest.splits import count_labels
from tasks.ingest.survey import Survey


def facts_of(found: Survey, entries: Sequence[Entry]) -> dict[str, Any]:
    """Facts by name.

    corpus, task, classes, modality, private, size; official: splits of the corpus's own; counts: split to
    class to labelled images; images: split to all images; unlabelled; leaks; missing: label rows without an
    image; quarantined.
    """
    scan, corpus = found.scan, found.corpus
    stored = [e for e in entries if e.usable]
    images = Counter(e.split for e in stored)
    return {
        "corpus": corpus.title,
        "task": scan.task,
        "classes": list(scan.classes),
        "modality": scan.modality,
        "private": corpus.private,
        "size": found.section["ingest"]["size"],
        "official": sorted(scan.official),
        "counts": count_labels(entries, scan.classes),
        "images": {split: images[split] for split in SPLITS},
        "unlabelled": sum(not e.row.labelled for e in stored),
        "leaks": sum(e.leak for e in stored),
        "missing": sum(e.row.status == MISSING for e in entries),
        "quarantined": sum(e.row.status == QUARANTINED for e in entries),
    }


def quarantine_of(entries: Sequence[Entry]) -> list[Quarantined]:
    """What is kept out and why, by path, or by keyed hash where private."""
    kept_out = [e for e in entries if e.row.status == QUARANTINED]
    return [
        Quarantined(source=e.shown, reason=e.row.reason, stage=STAGE)
        for e in sorted(kept_out, key=lambda e: (e.shown, e.key))
    ]


def notes_of(found: Survey, warnings: Sequence[str], removed: int, changed: int) -> list[str]:
    """Sentences for people."""
    notes = [*found.scan.notes, *warnings]
    if removed:
        notes.append(f"{removed} images are no longer in the folder; their shards keep them (forget erases)")
    if changed:
        notes.append(f"{changed} files hold other bytes than when they were ingested; their shards keep the old ones")
    return notes
