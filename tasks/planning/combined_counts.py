"""The counts that a plan rests on where several corpora form a training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.combine.members import check_alike
from tasks.combine.stage import COMBINE
from tasks.data.catalog import SPLITS
from tasks.pipeline.context import Context
from tasks.planning.corpus_counts import CorpusCounts
from tasks.planning.counts import count_corpus
from tasks.planning.measurements import KEPT, ImageSample
from tasks.spec import CorpusEntry, Spec
from tasks.spec.corpora import ALL, POOL, TEST


def count_corpora(spec: Spec, store: Store) -> CorpusCounts:
    """`count_corpus` of every corpus of a spec; of several, their sum as they take part.

    Raises:
        CorpusError, BudgetError: as an ingest would, before decoding; or the corpora do not go together.
    """
    parts = [count_corpus(spec, store, number) for number in range(len(spec.each_corpus))]
    if not spec.entries:
        return parts[0]
    first = next(part for part, entry in zip(parts, spec.entries, strict=True) if entry.use == ALL)
    check_alike(spec.entries, [part.facts for part in parts])
    return CorpusCounts(
        facts=_facts(spec, parts, first),
        patients=sum(part.patients for part in parts),
        without_patient=_sum(part.without_patient for part in parts),
        empty=sum(part.empty for part in parts),
        readable=sum(part.readable for part in parts),
        recipe=first.recipe,
        sample=_sample(parts, spec.entries),
        shards=sum(part.shards for part in parts),
        images=sum(part.images for part in parts),
        unhashed=sum(part.unhashed for part in parts),
        drawn=all(part.drawn for part in parts),
        manifest=_combined(spec, store, [part.manifest for part in parts]),
        parts=tuple(parts),
    )


def _facts(spec: Spec, parts: Sequence[CorpusCounts], first: CorpusCounts) -> dict[str, Any]:
    counts: dict[str, Counter[str]] = {split: Counter(dict.fromkeys(first.facts["classes"], 0)) for split in SPLITS}
    images: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
    unlabelled = 0
    for part, entry in zip(parts, spec.entries, strict=True):
        facts = part.facts
        whole = sum(facts["images"].values())
        labelled = sum((Counter(facts["counts"][split]) for split in SPLITS), Counter())
        if entry.use == POOL:
            images["train"] += whole
            unlabelled += whole
        elif entry.use == TEST:
            images["test"] += whole - facts["unlabelled"]
            counts["test"].update(labelled)
        else:
            images.update(facts["images"])
            unlabelled += facts["unlabelled"]
            for split in SPLITS:
                counts[split].update(facts["counts"][split])
    names = ("missing", "quarantined", "leaks")
    return {
        **{name: first.facts[name] for name in ("task", "classes", "modality")},
        "corpus": spec.corpus_title,
        "official": [],
        "counts": {split: dict(own) for split, own in counts.items()},
        "images": dict(images),
        "unlabelled": unlabelled,
        **{name: sum(part.facts[name] for part in parts) for name in names},
        "notes": [f"{p.facts['corpus']}: {note}" for p in parts for note in p.facts.get("notes", [])],
    }


def _sample(parts: Sequence[CorpusCounts], entries: Sequence[CorpusEntry]) -> ImageSample:
    """Means over images, weighted by how many of each corpus there are to store."""
    samples = [part.sample for part in parts]
    weights = np.array([max(part.images, 1e-9) for part in parts], float)
    each = KEPT // len(samples) or 1
    return ImageSample(
        tried=sum(sample.tried for sample in samples),
        reasons=[reason for sample in samples for reason in sample.reasons],
        image_seconds=float(np.average([sample.image_seconds for sample in samples], weights=weights)),
        image_bytes=float(np.average([sample.image_bytes for sample in samples], weights=weights)),
        images=[image for sample in samples for image in sample.images[:each]],
        overlays=[
            (-1 if entry.use == POOL else label, found)
            for sample, entry in zip(samples, entries, strict=True)
            for label, found in sample.overlays
        ],
    )


def _combined(spec: Spec, store: Store, manifests: Sequence[Manifest | None]) -> Manifest | None:
    """The manifest of the training set, where it is there already."""
    known = [manifest for manifest in manifests if manifest is not None]
    if len(known) < len(manifests):
        return None
    work = COMBINE.bind(Context(store, run=spec.run), spec, corpora=known)
    hit = StageCache(store).lookup(work.stage, work.key)
    return hit.manifest if hit is not None and hit.whole else None


def _sum(counts: Any) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in counts:
        found.update(each)
    return dict(found)
