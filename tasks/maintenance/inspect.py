"""Inspect a store, a corpus, a shard, an image or a soft-label file: as plain data, as a contact sheet, as Parquet."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import StillroomError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore, Store
from tasks.data.catalog import table_of
from tasks.data.corpus import Corpus
from tasks.drawing.contact_sheet import EACH, contact_sheet
from tasks.maintenance.name_lookup import KeyMatch, NameLookup, ObjectMatch
from tasks.maintenance.soft_label_summary import file_as_parquet, image_soft_labels, summarize_file
from tasks.maintenance.store_summary import summarize_store

_SHOWN = ("label", "labels", "patient", "split", "leak", "width", "height", "status", "reason")


def inspect(store: Store, what: str | None = None) -> dict[str, Any]:
    """Describe a store or one thing in it; `kind` says what it is and so which other fields there are.

    Args:
        what: title of a corpus, key of an image, name of an object or a part that only one name has; default the
            whole store.

    Raises:
        UsageError: nothing, or more than one thing, is called that.
        CorruptError: a manifest or table that is needed is damaged.
    """
    if what is None:
        return summarize_store(store)
    lookup = NameLookup(store)
    if what in lookup.contents.current:
        return summarize_store(store, what)
    image = lookup.key(what)
    if image is not None:
        return _image(lookup, image)
    match = lookup.object(what)
    if match.kind == "shard":
        return _shard(store, match)
    if match.kind == "soft":
        return summarize_file(lookup, match)
    return _object(match)


def shard_rows(store: Store, match: ObjectMatch) -> list[dict[str, Any]]:
    """The samples of a shard in its order: rows of the index joined with those of the catalog."""
    number = [output.name for output in match.manifest.outputs_where(kind="shard")].index(match.output.name)
    index = table_of(store, match.manifest, "index")
    rows: list[dict[str, Any]] = index.filter(pc.equal(index["shard"], number)).to_pylist()
    catalog = table_of(store, match.manifest, "catalog")
    found = catalog.filter(pc.is_in(catalog["key"], value_set=pa.array([row["key"] for row in rows], pa.string())))
    known_rows = {row["key"]: row for row in found.to_pylist()}
    # Labels count in the catalog; those of the index are as they were when the shard was made.
    return [{**row, **{name: known_rows[row["key"]][name] for name in _SHOWN}} for row in rows]


def class_of(manifest: Manifest, row: dict[str, Any]) -> str:
    """The classes that a row is labelled with, in words; "" when it is not."""
    classes = manifest.facts["classes"]
    if row["labels"] is not None:
        return ", ".join(name for name, value in zip(classes, row["labels"], strict=True) if value == 1)
    return str(classes[row["label"]]) if row["label"] >= 0 else ""


def _shard(store: Store, match: ObjectMatch) -> dict[str, Any]:
    rows = shard_rows(store, match)
    return {
        "kind": "shard",
        "name": match.output.name,
        "corpus": match.manifest.facts["corpus"],
        "split": match.output.meta["split"],
        "bytes": match.output.bytes,
        "sha256": match.output.sha256,
        "samples": [
            {
                "key": row["key"],
                "class": class_of(match.manifest, row),
                "patient": row["patient"],
                "bytes": row["size"],
                "whole": _whole(store, match.output.name, row),
            }
            for row in rows
        ],
    }


def _image(lookup: NameLookup, match: KeyMatch) -> dict[str, Any]:
    manifest, (row,) = match.manifest, match.row.to_pylist()
    found: dict[str, Any] = {
        "kind": "image",
        "key": row["key"],
        "corpus": manifest.facts["corpus"],
        "class": class_of(manifest, row),
        "catalog": {name: value for name, value in row.items() if value == value},  # quality may be NaN
        "shard": None,
        "soft_labels": [],
    }
    for place in match.place.to_pylist():
        output = manifest.outputs_where(kind="shard")[place["shard"]]
        found["shard"] = {
            "name": output.name,
            "row": place["row"],
            "file": f"{place['key']}.{place['ext']}",
            "offset": place["offset"],
            "bytes": place["size"],
            "whole": _whole(lookup.store, output.name, place),
        }
        found["soft_labels"] = image_soft_labels(lookup, output.id, place["row"], manifest)
    return found


def _object(match: ObjectMatch) -> dict[str, Any]:
    output = match.output
    return {
        "kind": "object",
        "name": output.name,
        "holds": match.kind,
        "manifest": match.manifest.name,
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


def sheet_of(lookup: NameLookup, what: str | None = None, *, each: int = EACH) -> bytes:
    """A contact sheet as PNG.

    Args:
        what: title of a corpus, or name (or part) of a shard; default the only corpus of the store.
        each: pictures a class.

    Raises:
        UsageError: it is neither, or the store has several corpora and none is named.
    """
    manifest, shard = _chosen(lookup, what)
    return contact_sheet(Corpus(lookup.store, manifest), shard, each=each)


def write_sheet(store: Store, what: str | None, path: Path) -> None:
    """A contact sheet under `path`; errors as `sheet_of`."""
    _write(path, sheet_of(NameLookup(store), what))


def write_parquet(store: Store, what: str | None, path: Path) -> None:
    """A soft-label file as Parquet (key, teacher, view, logits, partner, features) under `path`.

    Raises:
        UsageError: `what` names no soft-label file.
    """
    lookup = NameLookup(store)
    match = lookup.object(what) if what is not None else None
    if match is None or match.kind != "soft":
        raise UsageError("--parquet exports one soft-label file: name it, as labels/... or a part of that")
    _write(path, file_as_parquet(lookup, match))


def _chosen(lookup: NameLookup, what: str | None) -> tuple[Manifest, str | None]:
    if what is None:
        if len(lookup.heads) != 1:
            raise UsageError(f"the store holds the corpora {', '.join(lookup.heads) or '(none)'}: name one of them")
        return next(iter(lookup.heads.values())), None
    if what in lookup.heads:
        return lookup.heads[what], None
    match = lookup.object(what)
    if match.kind != "shard":
        raise UsageError(f"{match.output.name}: a contact sheet is of a corpus or a shard")
    return match.manifest, match.output.name


def _write(path: Path, data: bytes) -> None:
    folder = path.expanduser().resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no folder {folder}")
    # A store's `put` leaves nothing half-written under a final name.
    LocalStore(folder).put(path.name, data)
