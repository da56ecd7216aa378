"""What a store holds: its names by one listing, and what its manifests, heads and unit records refer to.

A manifest is reduced to a `ManifestSummary` as soon as it is read, and equal outputs are shared between summaries, so
that a long history of large manifests fits in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from infra.compute.cluster import cores
from infra.digest import canonical_json
from infra.errors import CorruptError
from infra.storage.manifest import REMEDY, Manifest, manifest_name
from infra.storage.stage_cache import UnitRecord
from infra.storage.store import MissingObjectError, Store

INFO = "_info.json"
MANIFESTS, HEADS, UNITS = "manifests/", "heads/", "units/"
THREADS_A_CORE = 4  # small objects wait for the disk or the network more than for the processor

Document = TypeVar("Document")
_REFERENCE = re.compile(r"\b[0-9a-f]{64}\b")


class ExpectedObject(NamedTuple):
    """One object that a manifest lists as its output."""

    name: str
    id: str
    bytes: int
    sha256: str
    kind: str


@dataclass(frozen=True)
class ManifestSummary:
    """The parts of a manifest that verify, repair, gc and inspect need."""

    name: str
    stage: str
    key: str
    digest: str
    about: str  # stage and what it is of, in a few words
    corpus: str  # title, where the stage is ingest
    parent: str  # key of the ingest manifest before it
    refers: frozenset[str]  # every digest, id or key that its inputs, section and facts name
    outputs: tuple[ExpectedObject, ...]


@dataclass(frozen=True)
class HeadPointer:
    """What `heads/<title>` points at."""

    title: str
    stage: str
    key: str
    digest: str

    @property
    def target(self) -> str:
        """Name of the manifest."""
        return manifest_name(self.stage, self.key)


@dataclass
class StoreContents:
    """All names with their sizes, and the parsed documents by name; `broken` holds the errors of unreadable ones."""

    sizes: dict[str, int]
    manifests: dict[str, ManifestSummary] = field(default_factory=dict)
    heads: dict[str, HeadPointer] = field(default_factory=dict)
    units: dict[str, tuple[str, ...]] = field(default_factory=dict)  # record to the names of its objects
    broken: dict[str, CorruptError] = field(default_factory=dict)

    def under(self, folder: str) -> list[str]:
        """Names below a folder, sorted."""
        return sorted(name for name in self.sizes if name.startswith(folder))

    @property
    def current(self) -> dict[str, ManifestSummary]:
        """Title to the manifest of its head, where that manifest is readable and has the digest that the head names."""
        found = {head.title: (head, self.manifests.get(head.target)) for head in self.heads.values()}
        return {title: m for title, (head, m) in found.items() if m is not None and m.digest == head.digest}


def read_contents(store: Store) -> StoreContents:
    """List the store once; read its manifests, heads and unit records."""
    contents = StoreContents(store.sizes(""))
    shared: dict[ExpectedObject, ExpectedObject] = {}
    contents.manifests = _documents(
        store, contents, MANIFESTS, lambda data, name: _manifest_summary(data, name, shared)
    )
    contents.heads = _documents(store, contents, HEADS, _head)
    contents.units = _documents(store, contents, UNITS, _unit)
    return contents


def read_documents(
    store: Store, names: Iterable[str], parse: Callable[[bytes, str], Document]
) -> dict[str, Document | CorruptError]:
    """Parse small objects in threads: results or CorruptErrors by name, without objects that were deleted meanwhile."""

    def one(name: str) -> Document | CorruptError | None:
        try:
            return parse(store.get(name), name)
        except CorruptError as error:
            return error
        except MissingObjectError:
            return None

    names = list(names)
    with ThreadPoolExecutor(cores() * THREADS_A_CORE) as pool:
        return {name: found for name, found in zip(names, pool.map(one, names), strict=True) if found is not None}


def _documents(
    store: Store, contents: StoreContents, folder: str, parse: Callable[[bytes, str], Document]
) -> dict[str, Document]:
    whole = {}
    for name, found in read_documents(store, contents.under(folder), parse).items():
        if isinstance(found, CorruptError):
            contents.broken[name] = found
        else:
            whole[name] = found
    return whole


def summarize_manifest(
    manifest: Manifest, shared: dict[ExpectedObject, ExpectedObject] | None = None
) -> ManifestSummary:
    """Reduce a manifest to its summary; `shared` holds outputs that several summaries have in common."""
    pool = shared if shared is not None else {}
    facts = manifest.facts
    who = facts.get("corpus") or facts.get("arm") or facts.get("teacher") or facts.get("name") or ""
    outputs = (ExpectedObject(o.name, o.id, o.bytes, o.sha256, str(o.meta.get("kind", ""))) for o in manifest.outputs)
    text = canonical_json([manifest.inputs, manifest.section, facts]).decode()
    return ManifestSummary(
        name=manifest.name,
        stage=manifest.stage,
        key=manifest.key,
        digest=manifest.digest,
        about=f"{manifest.stage} {who}".rstrip() + f" ({manifest.key[:12]})",
        corpus=str(facts.get("corpus") or ""),
        parent=str(facts.get("parent") or ""),
        refers=frozenset(_REFERENCE.findall(text)),
        outputs=tuple(pool.setdefault(p, p) for p in outputs),
    )


def _manifest_summary(data: bytes, name: str, shared: dict[ExpectedObject, ExpectedObject]) -> ManifestSummary:
    manifest = Manifest.from_bytes(data, name)
    if manifest.name != name:
        raise CorruptError(f"{name}: holds the manifest of {manifest.name}; {REMEDY}")
    return summarize_manifest(manifest, shared)


def _head(data: bytes, name: str) -> HeadPointer:
    try:
        pointer = json.loads(data)
        head = HeadPointer(name.removeprefix(HEADS), pointer["stage"], pointer["key"], pointer["digest"])
        whole = canonical_json({"stage": head.stage, "key": head.key, "digest": head.digest}) == data
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CorruptError(f"{name}: damaged: no pointer to a manifest; {REMEDY}")
    return head


def _unit(data: bytes, name: str) -> tuple[str, ...]:
    return tuple(output.name for output in UnitRecord.from_bytes(data, name).outputs)
