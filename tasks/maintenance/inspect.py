"""Inspect: a store, one of its corpora, a shard, an image or a soft-label file, as plain data."""

from __future__ import annotations

import zlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import StillroomError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.catalog import table_of
from tasks.maintenance.find import Finder, Keyed, Named
from tasks.maintenance.summary import summary
from tasks.maintenance.teaching import soft_file, taught

_SHOWN = ("label", "labels", "patient", "split", "leak", "width", "height", "status", "reason")


def inspect(store: Store, what: str | None = None) -> dict[str, Any]:
    """What is known of a thing in a store; `kind` says what it is and so what else is told.

    Args:
        what: title of a corpus, key of an image, name of an object or a part that only one name has; default the
            whole store.

    Raises:
        UsageError: nothing, or more than one thing, is called that.
        CorruptError: a manifest or table that is needed is damaged.
    """
    if what is None:
        return summary(store)
    finder = Finder(store)
    if what in finder.held.current:
        return summary(store, what)
    keyed = finder.key(what)
    if keyed is not None:
        return _image(finder, keyed)
    named = finder.object(what)
    if named.kind == "shard":
        return _shard(store, named)
    if named.kind == "soft":
        return soft_file(finder, named)
    return _object(named)


def shard_rows(store: Store, named: Named) -> list[dict[str, Any]]:
    """The samples of a shard in its order: rows of the index joined with those of the catalog."""
    number = [output.name for output in named.manifest.outputs_where(kind="shard")].index(named.output.name)
    index = table_of(store, named.manifest, "index")
    rows: list[dict[str, Any]] = index.filter(pc.equal(index["shard"], number)).to_pylist()
    catalog = table_of(store, named.manifest, "catalog")
    known = catalog.filter(pc.is_in(catalog["key"], value_set=pa.array([row["key"] for row in rows], pa.string())))
    told = {row["key"]: row for row in known.to_pylist()}
    # Labels count in the catalog; those of the index are as they were when the shard was made.
    return [{**row, **{name: told[row["key"]][name] for name in _SHOWN}} for row in rows]


def class_of(manifest: Manifest, row: dict[str, Any]) -> str:
    """The classes that a row is labelled with, in words; "" when it is not."""
    classes = manifest.facts["classes"]
    if row["labels"] is not None:
        return ", ".join(name for name, value in zip(classes, row["labels"], strict=True) if value == 1)
    return str(classes[row["label"]]) if row["label"] >= 0 else ""


def _shard(store: Store, named: Named) -> dict[str, Any]:
    rows = shard_rows(store, named)
    return {
        "kind": "shard",
        "name": named.output.name,
        "corpus": named.manifest.facts["corpus"],
        "split": named.output.meta["split"],
        "bytes": named.output.bytes,
        "sha256": named.output.sha256,
        "samples": [
            {
                "key": row["key"],
                "class": class_of(named.manifest, row),
                "patient": row["patient"],
                "bytes": row["size"],
                "whole": _whole(store, named.output.name, row),
            }
            for row in rows
        ],
    }


def _image(finder: Finder, keyed: Keyed) -> dict[str, Any]:
    manifest, (row,) = keyed.manifest, keyed.row.to_pylist()
    found: dict[str, Any] = {
        "kind": "image",
        "key": row["key"],
        "corpus": manifest.facts["corpus"],
        "class": class_of(manifest, row),
        "catalog": {name: value for name, value in row.items() if value == value},  # quality may be NaN
        "shard": None,
        "soft_labels": [],
    }
    for place in keyed.place.to_pylist():
        output = manifest.outputs_where(kind="shard")[place["shard"]]
        found["shard"] = {
            "name": output.name,
            "row": place["row"],
            "file": f"{place['key']}.{place['ext']}",
            "offset": place["offset"],
            "bytes": place["size"],
            "whole": _whole(finder.store, output.name, place),
        }
        found["soft_labels"] = taught(finder, output.id, place["row"], manifest)
    return found


def _object(named: Named) -> dict[str, Any]:
    output = named.output
    return {
        "kind": "object",
        "name": output.name,
        "holds": named.kind,
        "manifest": named.manifest.name,
        "bytes": output.bytes,
        "sha256": output.sha256,
        "samples": output.samples,
        "meta": output.meta,
    }


def _whole(store: Store, name: str, row: dict[str, Any]) -> bool:
    try:
        return zlib.crc32(store.read(name, row["offset"], row["size"], cached=False)) == row["crc32"]
    except (StillroomError, OSError):
        return False
