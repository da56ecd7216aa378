"""What a store holds: its names by one listing, and what its manifests, heads and unit records promise.

A manifest is read, boiled down to a `Dossier` and let go: a long history of large manifests shares its promises.
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

MANIFESTS, HEADS, UNITS, RUNS = "manifests/", "heads/", "units/", "runs/"
THREADS_A_CORE = 4  # small objects wait for the disk or the network more than for the processor

Doc = TypeVar("Doc")
_REFERENCE = re.compile(r"\b[0-9a-f]{64}\b")


class Promise(NamedTuple):
    """One object that a manifest names."""

    name: str
    id: str
    bytes: int
    sha256: str
    kind: str


@dataclass(frozen=True)
class Dossier:
    """What of a manifest the others need."""

    name: str
    stage: str
    key: str
    digest: str
    about: str  # a few words for people
    corpus: str  # title, where the stage is ingest
    parent: str  # key of the ingest manifest before it
    refers: frozenset[str]  # every digest, id or key that its inputs, section and facts name
    outputs: tuple[Promise, ...]


@dataclass(frozen=True)
class Head:
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
class Holdings:
    """All names with their sizes, and the documents among them by name; `broken` says why some could not be read."""

    sizes: dict[str, int]
    manifests: dict[str, Dossier] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)
    units: dict[str, tuple[str, ...]] = field(default_factory=dict)  # to the names of its objects
    broken: dict[str, CorruptError] = field(default_factory=dict)

    def under(self, folder: str) -> list[str]:
        """Names below a folder, sorted."""
        return sorted(name for name in self.sizes if name.startswith(folder))

    @property
    def current(self) -> dict[str, Dossier]:
        """Title to the manifest of its head, where that manifest is whole and the one meant."""
        found = {head.title: (head, self.manifests.get(head.target)) for head in self.heads.values()}
        return {title: m for title, (head, m) in found.items() if m is not None and m.digest == head.digest}


def look_into(store: Store) -> Holdings:
    """List the store once; read its manifests, heads and unit records."""
    held = Holdings(store.sizes(""))
    shared: dict[Promise, Promise] = {}
    held.manifests = _documents(store, held, MANIFESTS, lambda data, name: _dossier(data, name, shared))
    held.heads = _documents(store, held, HEADS, _head)
    held.units = _documents(store, held, UNITS, _unit)
    return held


def in_threads(store: Store, names: Iterable[str], parse: Callable[[bytes, str], Doc]) -> dict[str, Doc | CorruptError]:
    """What `parse` makes of small objects, or its CorruptError, by name; those that vanished are left out."""

    def one(name: str) -> Doc | CorruptError | None:
        try:
            return parse(store.get(name), name)
        except CorruptError as error:
            return error
        except MissingObjectError:
            return None

    names = list(names)
    with ThreadPoolExecutor(cores() * THREADS_A_CORE) as pool:
        return {name: found for name, found in zip(names, pool.map(one, names), strict=True) if found is not None}


def _documents(store: Store, held: Holdings, folder: str, parse: Callable[[bytes, str], Doc]) -> dict[str, Doc]:
    whole = {}
    for name, found in in_threads(store, held.under(folder), parse).items():
        if isinstance(found, CorruptError):
            held.broken[name] = found
        else:
            whole[name] = found
    return whole


def dossier_of(manifest: Manifest, shared: dict[Promise, Promise] | None = None) -> Dossier:
    """Boil a manifest down; `shared` lets several share equal promises."""
    pool = shared if shared is not None else {}
    facts = manifest.facts
    who = facts.get("corpus") or facts.get("arm") or facts.get("teacher") or facts.get("name") or ""
    promises = (Promise(o.name, o.id, o.bytes, o.sha256, str(o.meta.get("kind", ""))) for o in manifest.outputs)
    told = canonical_json([manifest.inputs, manifest.section, facts]).decode()
    return Dossier(
        name=manifest.name,
        stage=manifest.stage,
        key=manifest.key,
        digest=manifest.digest,
        about=f"{manifest.stage} {who}".rstrip() + f" ({manifest.key[:12]})",
        corpus=str(facts.get("corpus") or ""),
        parent=str(facts.get("parent") or ""),
        refers=frozenset(_REFERENCE.findall(told)),
        outputs=tuple(pool.setdefault(p, p) for p in promises),
    )


def _dossier(data: bytes, name: str, shared: dict[Promise, Promise]) -> Dossier:
    manifest = Manifest.from_bytes(data, name)
    if manifest.name != name:
        raise CorruptError(f"{name}: holds the manifest of {manifest.name}; {REMEDY}")
    return dossier_of(manifest, shared)


def _head(data: bytes, name: str) -> Head:
    try:
        told = json.loads(data)
        head = Head(name.removeprefix(HEADS), told["stage"], told["key"], told["digest"])
        whole = canonical_json({"stage": head.stage, "key": head.key, "digest": head.digest}) == data
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CorruptError(f"{name}: damaged: no pointer to a manifest; {REMEDY}")
    return head


def _unit(data: bytes, name: str) -> tuple[str, ...]:
    return tuple(output.name for output in UnitRecord.from_bytes(data, name).outputs)
