"""A small graded corpus and looks at what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tests.tasks.corpora.layouts import csv, eyepacs, many_patients

GRADES = many_patients(20)


def graded(root: Path) -> Path:
    """40 graded images of 20 patients, 6 more in the pool."""
    return eyepacs(root, GRADES, pool=[f"{p}_left" for p in range(30, 36)])


def catalog(store: LocalStore, manifest: Manifest) -> dict[str, dict[str, Any]]:
    rows = from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist()
    assert [r["key"] for r in rows] == sorted(r["key"] for r in rows)
    return {row["key"]: row for row in rows}


def shards(manifest: Manifest) -> list[str]:
    return [o.name for o in manifest.outputs_where(kind="shard")]


def grade(corpus: Path, **changed: int) -> None:
    rows = {**GRADES, **{key.removeprefix("p"): value for key, value in changed.items()}}
    csv(corpus / "trainLabels.csv", "image,level", [f"{name},{level}" for name, level in rows.items()])
