"""The labelled test images that a student is judged on: their digest, how often it was looked at, what changed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.digest import digest_of
from infra.errors import CorruptError
from infra.storage.manifest import DIGEST, Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import MissingObjectError, Store
from tasks.data.corpus import Corpus
from tasks.data.tombstones import Tombstones
from tasks.evaluate.arms import Truth

_EVALUATE_TAG = "stillroom.manifest.evaluate"
Label = str | list[list[Any]]


@dataclass(frozen=True)
class Changes:
    """How a test set differs from the champion's: keys of images.

    Attributes:
        removed: that were labelled test images then and are none now, and were not erased.
        erased: those that were erased on request.
    """

    version: str
    added: list[str]
    removed: list[str]
    relabelled: list[str]
    erased: list[str]

    def to_json(self) -> dict[str, Any]:
        """Counts, JSON-safe."""
        kinds = ("added", "removed", "relabelled", "erased")
        return {"version": self.version, **{kind: len(getattr(self, kind)) for kind in kinds}}


def digest_of_test(corpus: Corpus, truth: Truth) -> str:
    """Of the keys of some test images, the bytes that they came from, and their labels by the names of classes."""
    keys = [str(key) for key in truth.keys]
    catalog = corpus.catalog.filter(pc.is_in(corpus.catalog["key"], value_set=pa.array(keys, pa.string())))
    sources = dict(zip(catalog["key"].to_pylist(), catalog["source_sha256"].to_pylist(), strict=True))
    labels = labels_of(truth, corpus.classes)
    return digest_of([[key, sources[key], labels[key]] for key in sorted(keys)])


def labels_of(truth: Truth, classes: Sequence[str]) -> dict[str, Label]:
    """Label of each image by its key: the class's name, or the known ones of several with 0 or 1."""
    many = None if truth.labels is None else truth.labels.tolist()
    return {
        str(key): _label(int(label), None if many is None else many[row], classes)
        for row, (key, label) in enumerate(zip(truth.keys, truth.label, strict=True))
    }


def _label(label: int, labels: Sequence[int] | None, classes: Sequence[str]) -> Label:
    if labels is None:
        return classes[label]
    return sorted([name, int(value)] for name, value in zip(classes, labels, strict=True) if value >= 0)


def looks_before(store: Store, stage: str, digest: str, student: str) -> int:
    """How many other students were judged on a test set, by the manifests of the gate that the store still has.

    Args:
        stage: of the gate.
        digest: of the test set.
        student: key of the one that is judged now.
    """
    seen = set()
    for name in sorted(store.sizes(f"manifests/{stage}/")):
        try:
            facts = Manifest.from_bytes(store.get(name), name).facts
        except (CorruptError, MissingObjectError):
            continue
        if facts.get("test", {}).get("digest") == digest:
            seen.add(facts["student"])
    return len(seen - {student})


def changes_since(
    corpus: Corpus, truth: Truth, version: str, tags: Mapping[str, str], titles: Sequence[str]
) -> Changes | None:
    """What changed since a champion's evaluation; None where the store does not have it any more.

    Args:
        truth: today's test images.
        version, tags: of the champion.
        titles: of the corpora, for what was erased.
    """
    before = _evaluated(corpus.store, tags.get(_EVALUATE_TAG, ""))
    if before is None:
        return None
    now = labels_of(truth, corpus.classes)
    gone = sorted(before.keys() - now.keys())
    erased = {key for title in titles for key in Tombstones.read(corpus.store, title).erased("key", gone)}
    return Changes(
        version=version,
        added=sorted(now.keys() - before.keys()),
        removed=[key for key in gone if key not in erased],
        relabelled=sorted(key for key in before.keys() & now.keys() if before[key] != now[key]),
        erased=sorted(erased),
    )


def _evaluated(store: Store, digest: str) -> dict[str, Label] | None:
    """Labels of the test images of an evaluation, by the digest of its manifest."""
    for name in sorted(store.sizes("manifests/evaluate/")) if digest else ():
        try:
            data = store.get(name)
            if json.loads(data).get(DIGEST) != digest:
                continue
            manifest = Manifest.from_bytes(data, name)
            table = pq.read_table(
                io.BytesIO(read_output(store, manifest.output(kind="predictions"))),
                columns=["key", "label", "labels"],
                filters=[("split", "=", "test")],
            ).to_pydict()
        except (CorruptError, MissingObjectError, ValueError):
            return None
        classes = manifest.facts["classes"]
        return {
            key: _label(label, labels, classes)
            for key, label, labels in zip(table["key"], table["label"], table["labels"], strict=True)
        }
    return None
