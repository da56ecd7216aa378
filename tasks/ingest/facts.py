"""What an ingest tells in its manifest: counts worth reading, and what is kept out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.storage.manifest import Quarantined
from tasks.data.catalog import MISSING, QUARANTINED, SPLITS
from tasks.ingest.people import equal_bytes
from tasks.ingest.roll import Roll
from tasks.ingest.shard import STAGE
from tasks.ingest.splits import count_labels
from tasks.ingest.survey import Found
from tasks.ingest.trust import Leaks


def facts_of(found: Found, roll: Roll, leaks: Leaks) -> dict[str, Any]:
    """Facts by name.

    corpus, task, classes, modality, private, size, crop; official: splits of the corpus's own; counts: split to
    class to labelled images; images: split to all images; unlabelled; leaks: images of val and test that also
    stand in train, leaks_by: patient, bytes or near twin; doubles: images whose bytes another image has too;
    missing: label rows without an image; quarantined.
    """
    scan, corpus, how = found.scan, found.corpus, found.section["ingest"]
    stored = roll.usable
    split = roll.numbers("split")
    groups = equal_bytes(roll, stored)
    return {
        "corpus": corpus.title,
        "task": scan.task,
        "classes": list(scan.classes),
        "modality": scan.modality,
        "private": corpus.private,
        "size": how["size"],
        "crop": how["crop"],
        "official": sorted(scan.official),
        "counts": count_labels(roll, scan.classes),
        "images": {name: int((stored & (split == i)).sum()) for i, name in enumerate(SPLITS)},
        "unlabelled": int((stored & ~roll.labelled).sum()),
        "leaks": leaks.images,
        "leaks_by": leaks.to_json(),
        "doubles": int((groups >= 0).sum()) - len(np.unique(groups[groups >= 0])),
        "missing": int(roll.where("status", MISSING).sum()),
        "quarantined": int(roll.where("status", QUARANTINED).sum()),
    }


def quarantine_of(roll: Roll) -> list[Quarantined]:
    """What is kept out and why, by path, or by keyed hash where private."""
    rows = roll.where("status", QUARANTINED)
    told = sorted(roll.told(("shown", "key", "reason"), limit=len(roll), rows=rows))
    return [Quarantined(source=shown, reason=reason, stage=STAGE) for shown, _, reason in told]


def notes_of(found: Found, warnings: Sequence[str], removed: int, changed: int) -> list[str]:
    """Sentences for people."""
    notes = [*found.scan.notes, *warnings]
    if removed:
        notes.append(f"{removed} images are no longer in the folder; their shards keep them (forget erases)")
    if changed:
        notes.append(f"{changed} files hold other bytes than when they were ingested; their shards keep the old ones")
    return notes
