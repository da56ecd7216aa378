"""Specs for ingest alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.ingest.stage import ingest
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult
from tasks.spec import Spec


def spec(root: Path, store: LocalStore, corpus: dict[str, Any] | None = None, **sections: Any) -> Spec:
    """A spec whose corpus is EyePACS unless `corpus` says otherwise; small images, small shards."""
    return Spec.model_validate(
        {
            "name": "test",
            "store": store.url,
            "corpus": {"adapter": "eyepacs", "root": root, **(corpus or {})},
            "ingest": {"size": 16, "shard_size": 8, **sections.pop("ingest", {})},
            "teachers": [{"name": "t", "model": "micro"}],
            "student": {"model": "micro"},
            **sections,
        }
    )


def run(given: Spec, cluster: Cluster) -> StageResult:
    """Ingest into the store that the spec names."""
    return ingest(Context(LocalStore(Path(given.store)), cluster, given.run), given)
