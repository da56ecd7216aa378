"""Corpora of two hospitals, drawn: bright and dark squares on noise, a table beside the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.combine.stage import combine
from tasks.data.corpus import Corpus
from tasks.ingest.stage import ingest
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.tasks.corpora.layouts import csv

SIDE = 32
TABLE = {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient"}


def picture(seed: int, bright: bool) -> np.ndarray:
    """A square on noise, uint8 [32, 32, 3]; another one for each seed."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(110, 25, (SIDE, SIDE, 3))
    y, x = rng.integers(2, SIDE - 14, 2)
    pixels[y : y + 12, x : x + 12] += 70 if bright else -70
    return np.clip(pixels, 0, 255).astype(np.uint8)


def hospital(
    folder: Path,
    prefix: str,
    *,
    images: int = 40,
    unlabelled: int = 6,
    seed: int = 0,
    names: tuple[str, str] = ("dark", "bright"),
) -> Path:
    """A folder with `<prefix><number>.png`, two images a patient, patients numbered from 0; the last are unlabelled."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(images + unlabelled):
        bright = number // 2 % 2
        cv2.imwrite(str(folder / f"{prefix}{number:03d}.png"), picture(1000 * seed + number, bool(bright)))
        rows.append(f"{prefix}{number:03d},{names[bright] if number < images else ''},{number // 2}")
    csv(folder / "labels.csv", "name,label,patient", rows)
    return folder


def entry(root: Path, name: str, **more: Any) -> dict[str, Any]:
    """One of `corpora`."""
    return {"adapter": "table", "root": str(root), "name": name, "table": TABLE, **more}


def spec_of(store: LocalStore, *corpora: dict[str, Any], **sections: Any) -> Spec:
    """A spec of several corpora with the smallest networks."""
    return Spec.model_validate(
        {
            "name": "hospitals",
            "store": store.url,
            "corpora": list(corpora),
            "ingest": {"encode": "keep", "shard_size": 16},
            "views": {"size": SIDE, "count": 1},
            "teachers": [{"name": "t", "model": "micro_xs"}],
            "student": {"model": "micro_xs", "train": {"steps": 40, "batch": 16, "lr": 0.01}},
            "evaluate": {"bootstrap": 50, "baselines": False},
            "run": {"device": "cpu", "train": {"threads": 1}},
            **sections,
        }
    )


def combined(spec: Spec, store: LocalStore, cluster: Cluster) -> Manifest:
    """Ingest every corpus of a spec and combine them."""
    context = Context(store, cluster, spec.run)
    manifests = [ingest(context, spec, number).manifest for number in range(len(spec.each_corpus))]
    return combine(context, spec, manifests).manifest


def rows_of(store: LocalStore, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The combined catalog by key."""
    return {row["key"]: row for row in Corpus(store, manifest).catalog.to_pylist()}
