"""Soft labels for inspection: those of one image over teachers and views, and one file as a whole or as Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from models.augmentation.draws import NO_PARTNER
from tasks.data.catalog import table_of
from tasks.data.soft_labels import SoftLabels, read_soft_labels, sigmoid, softmax
from tasks.maintenance.name_lookup import NameLookup, ObjectMatch

TOP_CLASSES = 3
FIRST_ROWS = 5
SOFT = pa.schema(
    [
        ("key", pa.string()),
        ("teacher", pa.string()),
        ("view", pa.int32()),
        ("logits", pa.list_(pa.float32())),  # null where not valid
        ("partner", pa.string()),  # key of the image mixed into this view; null where it is mixed with nobody's
        ("features", pa.list_(pa.float32())),  # flat, in C order; null where none are stored, or not valid
    ]
)


def image_soft_labels(lookup: NameLookup, shard_id: str, row: int, manifest: Manifest) -> list[dict[str, Any]]:
    """Soft labels of one image: teacher, view, valid, and the likeliest classes with their probabilities.

    Also `partner`, the key of the image that its view is mixed with, and `features`, the shape of those stored of it;
    None where there is neither.
    """
    found: dict[str, dict[str, Any]] = {}
    keys: list[str] = []
    for labels in lookup.manifests("label"):
        for output in labels.outputs_where(kind="soft"):
            if labels.inputs[output.meta["shard"]] == shard_id and output.name not in found:
                soft = _read(lookup.store, output)
                if soft.partner is not None and not keys:
                    keys = _keys_of(lookup.store, manifest, shard_id)
                found[output.name] = {
                    "teacher": output.meta["teacher"],
                    "view": output.meta["view"],
                    "valid": bool(soft.valid[row]),
                    "top": _top(soft.logits[row], manifest),
                    "partner": _partner(soft, row, keys),
                    "features": list(soft.features.shape[1:]) if soft.features is not None else None,
                    "object": output.name,
                }
    return sorted(found.values(), key=lambda each: (each["teacher"], each["view"], each["object"]))


def summarize_file(lookup: NameLookup, match: ObjectMatch) -> dict[str, Any]:
    """One soft-label file: shape, teacher, view, classes that it holds most likely, its first rows.

    `mixed` counts the rows whose view is mixed with a partner's, `features` is the shape of those stored; None where
    there are no partners or features at all.
    """
    output, soft = match.output, _read(lookup.store, match.output)
    corpus = corpus_of(lookup, match)
    keys = _keys(lookup, match, corpus)
    classes = corpus.facts["classes"] if corpus else [str(n) for n in range(soft.logits.shape[1])]
    probable = _probabilities(soft.logits, corpus)
    best = probable[soft.valid].argmax(axis=1)
    return {
        "kind": "soft_labels",
        "name": output.name,
        "teacher": output.meta["teacher"],
        "view": output.meta["view"],
        "split": output.meta["split"],
        "shape": list(soft.logits.shape),
        "bytes": output.bytes,
        "invalid": soft.invalid,
        "mixed": int((soft.partner != NO_PARTNER).sum()) if soft.partner is not None else None,
        "features": list(soft.features.shape) if soft.features is not None else None,
        "classes": {name: int((best == n).sum()) for n, name in enumerate(classes)},
        "mean_confidence": float(probable[soft.valid].max(axis=1).mean()) if soft.valid.any() else None,
        "rows": [
            {
                "key": keys[n],
                "valid": bool(soft.valid[n]),
                "logits": [round(float(v), 3) for v in soft.logits[n]],
                "partner": _partner(soft, n, keys),
            }
            for n in range(min(FIRST_ROWS, len(keys)))
        ],
    }


def file_as_parquet(lookup: NameLookup, match: ObjectMatch) -> bytes:
    """A soft-label file as Parquet, schema SOFT."""
    output, soft = match.output, _read(lookup.store, match.output)
    keys = _keys(lookup, match, corpus_of(lookup, match))
    table = pa.Table.from_pydict(
        {
            "key": keys,
            "teacher": [output.meta["teacher"]] * len(keys),
            "view": [output.meta["view"]] * len(keys),
            "logits": _rows(soft.logits, soft.valid),
            "partner": [_partner(soft, n, keys) for n in range(len(keys))],
            "features": _rows(soft.features, soft.valid) if soft.features is not None else [None] * len(keys),
        },
        schema=SOFT,
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def corpus_of(lookup: NameLookup, match: ObjectMatch) -> Manifest | None:
    """The ingest manifest whose shard a soft-label file is about; None when the store has it no more."""
    shard = match.manifest.inputs[match.output.meta["shard"]]
    for manifest in lookup.manifests("ingest"):
        if any(output.id == shard for output in manifest.outputs):
            return manifest
    return None


def _keys(lookup: NameLookup, match: ObjectMatch, corpus: Manifest | None) -> list[str]:
    """Keys of the rows; numbers where the shard's index is gone."""
    if corpus is None:
        return [str(n) for n in range(match.output.samples)]
    return _keys_of(lookup.store, corpus, match.manifest.inputs[match.output.meta["shard"]])


def _keys_of(store: Store, corpus: Manifest, shard_id: str) -> list[str]:
    number = [output.id for output in corpus.outputs_where(kind="shard")].index(shard_id)
    index = table_of(store, corpus, "index")
    keys: list[str] = index.filter(pa.compute.equal(index["shard"], number))["key"].to_pylist()
    return keys


def _partner(soft: SoftLabels, row: int, keys: Sequence[str]) -> str | None:
    if soft.partner is None or soft.partner[row] == NO_PARTNER:
        return None
    return keys[soft.partner[row]]


def _rows(values: np.ndarray, valid: np.ndarray) -> list[list[float] | None]:
    flat = values.reshape(len(values), -1)
    return [row.tolist() if ok else None for row, ok in zip(flat, valid, strict=True)]


def _read(store: Store, output: Output) -> SoftLabels:
    return read_soft_labels(read_output(store, output), output.name)


def _top(logits: np.ndarray, manifest: Manifest) -> list[list[Any]]:
    probable = _probabilities(logits, manifest)
    return [[manifest.facts["classes"][n], round(float(probable[n]), 4)] for n in np.argsort(-probable)[:TOP_CLASSES]]


def _probabilities(logits: np.ndarray, manifest: Manifest | None) -> np.ndarray:
    many = manifest is not None and manifest.facts["task"] == "multilabel"
    return sigmoid(logits) if many else softmax(logits)
