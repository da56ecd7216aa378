"""What a store holds, corpus by corpus and stage by stage, in numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.catalog import OK, QUARANTINED, table_of
from tasks.maintenance.store_contents import ManifestSummary, StoreContents, read_contents
from tasks.maintenance.verify import UNNAMED_FOLDERS

BINS = 8


def summarize_store(store: Store, title: str | None = None) -> dict[str, Any]:
    """Corpora, stages and sizes.

    Args:
        title: of one corpus; default all.

    Raises:
        MissingObjectError: the catalog or index of a corpus is lost.
    """
    contents = read_contents(store)
    current = {t: m for t, m in sorted(contents.current.items()) if title in (None, t)}
    found: dict[str, Any] = {
        "kind": "store" if title is None else "corpus",
        "store": store.url,
        "corpora": [corpus_summary(store, Manifest.from_bytes(store.get(m.name), m.name)) for m in current.values()],
    }
    if title is None:
        found |= {
            "objects": len(contents.sizes),
            "bytes": sum(contents.sizes.values()),
            "folders": _folders(contents.sizes),
            "stages": _stages(contents.manifests),
            "strays": _strays(contents),
            "damaged": sorted(contents.broken),
        }
    return found


def corpus_summary(store: Store, manifest: Manifest) -> dict[str, Any]:
    """One corpus as its head has it: counts by split and class, quarantine by reason, histograms."""
    facts = manifest.facts
    catalog = table_of(store, manifest, "catalog")
    index = table_of(store, manifest, "index")
    shards = manifest.outputs_where(kind="shard")
    status = np.asarray(catalog["status"].to_pylist(), dtype=object)
    reasons = Counter(np.asarray(catalog["reason"].to_pylist(), dtype=object)[status == QUARANTINED].tolist())
    seen = status == OK
    return {
        "corpus": facts["corpus"],
        "manifest": manifest.key,
        "private": facts["private"],
        "task": facts["task"],
        "modality": facts["modality"],
        "classes": facts["classes"],
        "images": facts["images"],
        "counts": facts["counts"],
        "unlabelled": facts["unlabelled"],
        "leaks": facts["leaks"],
        "missing": facts["missing"],
        "quarantined": facts["quarantined"],
        "quarantine": dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        "notes": facts["notes"],
        "shards": len(shards),
        "shard_bytes": sum(shard.bytes for shard in shards),
        "width": histogram(catalog["width"].to_numpy()[seen]),
        "height": histogram(catalog["height"].to_numpy()[seen]),
        "image_bytes": histogram(index["size"].to_numpy()),
    }


def histogram(values: np.ndarray) -> dict[str, Any]:
    """Least, median and largest of numbers [N], and how many fall into each of a few equal steps."""
    if not len(values):
        return {"least": None, "median": None, "largest": None, "edges": [], "counts": []}
    low, high = int(values.min()), int(values.max())
    steps = min(BINS, high - low + 1)
    # Whole numbers on both sides of every bin, so that none is split by rounding.
    edges = low + np.arange(steps + 1) * -(-(high - low + 1) // steps)
    counts, _ = np.histogram(values, edges)
    return {
        "least": low,
        "median": float(np.median(values)),
        "largest": high,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _folders(sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"objects": 0, "bytes": 0})
    for name in sorted(sizes):
        folder = found[name.partition("/")[0]]
        folder["objects"] += 1
        folder["bytes"] += sizes[name]
    return dict(found)


def _stages(manifests: Mapping[str, ManifestSummary]) -> list[dict[str, Any]]:
    return [
        {
            "stage": m.stage,
            "key": m.key,
            "about": m.about,
            "outputs": len(m.outputs),
            "bytes": sum(p.bytes for p in m.outputs),
        }
        for m in sorted(manifests.values(), key=lambda m: m.name)
    ]


def _strays(contents: StoreContents) -> int:
    named = {expected.name for manifest in contents.manifests.values() for expected in manifest.outputs}
    return sum(not (n in named or n.startswith(UNNAMED_FOLDERS) or n.endswith("/_info.json")) for n in contents.sizes)
