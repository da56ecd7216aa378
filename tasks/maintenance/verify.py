"""Verify: compare every object of a store with the manifest or head that names it.

Each object is read once, in blocks, several at a time; a damaged shard is then compared sample by sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.cluster import cores
from infra.errors import CorruptError, StillroomError
from infra.storage.manifest import Manifest
from infra.storage.store import MissingObjectError, Store
from tasks.data.catalog import from_parquet
from tasks.data.tombstones import FOLDER as TOMBSTONES
from tasks.data.weights import TEACHER_FILES
from tasks.ingest.parent import info_bytes
from tasks.ingest.secret import FACT as SECRET_FACT
from tasks.ingest.secret import SECRETS, secret_defect, secret_file
from tasks.ingest.shard import STAGE as INGEST
from tasks.maintenance.erasure_defects import erasure_defects
from tasks.maintenance.shard_damage import BLOCK, compare_shard
from tasks.maintenance.store_contents import (
    HEADS,
    INFO,
    MANIFESTS,
    UNITS,
    ExpectedObject,
    ManifestSummary,
    StoreContents,
    read_contents,
    summarize_manifest,
)
from tasks.maintenance.under_way import LOCKS, RUNS

Progress = Callable[[int, int], None]

UNNAMED_FOLDERS = (
    *(MANIFESTS, HEADS, UNITS, RUNS, LOCKS),
    *("listings/", SECRETS, "checkpoints/", "engines/", TEACHER_FILES, TOMBSTONES),
)
"""Folders whose objects no manifest names."""

MISSING, SIZE, BYTES, MANIFEST, HEAD = "missing", "size", "bytes", "manifest", "head"
SECRET, ERASURE = "secret", "erasure"
SHOWN_SAMPLES = 5


@dataclass(frozen=True)
class Defect:
    """One object that is not as its manifest says.

    `samples` are the keys of images that it no longer holds as ingested; damage outside images has none.
    """

    object: str
    kind: str  # missing, size, bytes, manifest, head, secret or erasure
    detail: str
    samples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"object": self.object, "kind": self.kind, "samples": list(self.samples), "detail": self.detail}

    @property
    def line(self) -> str:
        """One line of text."""
        shown = ", ".join(self.samples[:SHOWN_SAMPLES]) + (", ..." if len(self.samples) > SHOWN_SAMPLES else "")
        hit = f"; {len(self.samples)} of its samples hit: {shown}" if self.samples else ""
        return f"{self.kind:<8} {self.object}: {self.detail}{hit}"


@dataclass(frozen=True)
class VerifyReport:
    """The state of a store.

    `objects` and `bytes` count what was read and compared; `strays` are objects that no manifest names. They are no
    defects: an unfinished run made them, or gc may remove them.
    """

    objects: int
    bytes: int
    defects: tuple[Defect, ...] = ()
    strays: int = 0
    stray_bytes: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "defects": [defect.to_json() for defect in self.defects],
            "strays": self.strays,
            "stray_bytes": self.stray_bytes,
        }


@dataclass
class ReportBuilder:
    """Collects defects; an object has at most one."""

    objects: int = 0
    bytes: int = 0
    defects: dict[str, Defect] = field(default_factory=dict)

    def add(self, object: str, kind: str, detail: str, samples: tuple[str, ...] = ()) -> None:
        """Add a defect, unless the object has one already."""
        self.defects.setdefault(object, Defect(object, kind, detail, samples))

    def report(self, strays: dict[str, int]) -> VerifyReport:
        """The finished report, defects sorted by name."""
        defects = tuple(self.defects[name] for name in sorted(self.defects))
        return VerifyReport(self.objects, self.bytes, defects, len(strays), sum(strays.values()))


def verify(
    store: Store, *, manifests: Iterable[Manifest] | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Compare a store with its manifests.

    Args:
        manifests: check the outputs of these alone; default: all manifests, heads, unit records, outputs and
            `_info.json` files of the store.
        progress: called with (bytes read, bytes to read).
    """
    return _Check(store, progress or (lambda done, total: None)).run(manifests)


class _Check:
    def __init__(self, store: Store, progress: Progress) -> None:
        self.store, self.progress = store, progress
        self.found = ReportBuilder()
        self.table = lru_cache(maxsize=1)(self._index)

    def run(self, manifests: Iterable[Manifest] | None) -> VerifyReport:
        if manifests is not None:
            self._outputs({m.name: summarize_manifest(m) for m in manifests}, self.store.sizes(""))
            return self.found.report({})
        contents = read_contents(self.store)
        self._documents(contents)
        self._deposited(contents)
        self._secrets(contents)
        for name, detail in erasure_defects(self.store, contents):
            self.found.add(name, ERASURE, detail)
        named = self._outputs(contents.manifests, contents.sizes)
        for name, kind, detail in info_defects(self.store, contents):
            self.found.add(name, kind, detail)
        infos = {f"{shard_folder_of(m)}/{INFO}" for m in contents.manifests.values()} & contents.sizes.keys()
        self.found.objects += len(infos)
        strays = {
            n: s for n, s in contents.sizes.items() if not (n in named or n in infos or n.startswith(UNNAMED_FOLDERS))
        }
        return self.found.report(strays)

    def _documents(self, contents: StoreContents) -> None:
        for name, error in contents.broken.items():
            kind = MANIFEST if name.startswith(MANIFESTS) else HEAD if name.startswith(HEADS) else BYTES
            self.found.add(name, kind, _reason(error, name))
        for head in contents.heads.values():
            name, manifest = HEADS + head.title, contents.manifests.get(head.target)
            if manifest is None:
                state = "damaged" if head.target in contents.broken else "not there"
                self.found.add(name, HEAD, f"points at {head.target}, which is {state}")
            elif manifest.digest != head.digest:
                self.found.add(name, HEAD, f"points at {head.target} with another digest than it has")
        read = [
            *contents.manifests,
            *(HEADS + h.title for h in contents.heads.values()),
            *contents.units,
            *contents.broken,
        ]
        self.found.objects += len(read)
        self.found.bytes += sum(contents.sizes.get(name, 0) for name in read)

    def _deposited(self, contents: StoreContents) -> None:
        """Files of teachers: each is named by its digest."""
        for name in contents.under(TEACHER_FILES):
            self.found.objects += 1
            self.found.bytes += contents.sizes[name]
            if sha256_in(self.store, name) != name.removeprefix(TEACHER_FILES).partition(".")[0]:
                self.found.add(name, BYTES, "bytes are not those of its name (file of a teacher)")

    def _secrets(self, contents: StoreContents) -> None:
        """Secrets of private corpora: those that this machine has, and those that the store should not have."""
        for title, summary in contents.current.items():
            expected = str(Manifest.from_bytes(self.store.get(summary.name), summary.name).facts.get(SECRET_FACT, ""))
            detail = secret_defect(title, expected) if expected else None
            if detail is not None:
                self.found.add(f"secret of {title}", SECRET, detail)
        for name in contents.under(SECRETS):
            where = secret_file(name.removeprefix(SECRETS).removesuffix(".key"))
            self.found.add(
                name, SECRET, f"whoever copies the store has the secret too; move it to {where}, or remove it"
            )

    def _outputs(self, manifests: dict[str, ManifestSummary], sizes: dict[str, int]) -> set[str]:
        """Look at each output once; returns all their names."""
        owners: dict[str, tuple[ExpectedObject, ManifestSummary]] = {}
        for manifest in manifests.values():
            for expected in manifest.outputs:
                known = owners.setdefault(expected.name, (expected, manifest))[0]
                if (known.bytes, known.sha256) != (expected.bytes, expected.sha256):
                    self.found.add(manifest.name, MANIFEST, f"promises other bytes of {expected.name} than another")
        total = sum(expected.bytes for expected, _ in owners.values())
        done = 0
        # Largest first, so that no thread is left alone with a large object at the end.
        order = sorted(owners.values(), key=lambda pair: (-pair[0].bytes, pair[0].name))
        with ThreadPoolExecutor(2 * cores()) as pool:
            problems = pool.map(lambda pair: self._look(pair[0], sizes), order)
            for (expected, manifest), problem in zip(order, problems, strict=True):
                done += expected.bytes
                self.found.objects += 1
                self.found.bytes += expected.bytes
                if problem is not None:
                    self._explain(
                        expected, [manifest, *(m for m in manifests.values() if expected in m.outputs)], *problem
                    )
                self.progress(done, total)
        return set(owners)

    def _look(self, expected: ExpectedObject, sizes: dict[str, int]) -> tuple[str, str] | None:
        """Kind and detail of what is wrong with an object."""
        size = sizes.get(expected.name)
        if size is None:
            return MISSING, "not there"
        if size != expected.bytes:
            return SIZE, f"{size} bytes instead of {expected.bytes}"
        try:
            if sha256_in(self.store, expected.name) == expected.sha256:
                return None
        except MissingObjectError:
            return MISSING, "not there"
        except (CorruptError, OSError) as error:
            return BYTES, f"cannot be read: {error}"
        return BYTES, "bytes are not those written"

    def _explain(self, expected: ExpectedObject, owners: list[ManifestSummary], kind: str, detail: str) -> None:
        if expected.kind != "shard":
            what = f"{expected.kind} of {owners[0].about}" if expected.kind else owners[0].about
            self.found.add(expected.name, kind, f"{detail} ({what})")
            return
        rows = self._rows(expected, owners)
        if rows is None:
            self.found.add(expected.name, kind, f"{detail}; its index is lost too, so no samples can be named")
            return
        keys: tuple[str, ...] = tuple(rows["key"].to_pylist())
        if kind != MISSING:
            try:
                there = self.store.sizes(expected.name)[expected.name]
                damage = compare_shard(self.store, expected.name, there, rows, expected.bytes)
                keys, detail = tuple(damage.samples), f"{detail}; {damage.detail}"
            except (StillroomError, OSError, KeyError) as error:
                detail = f"{detail}; {error}"
        self.found.add(expected.name, kind, detail, keys)

    def _rows(self, expected: ExpectedObject, owners: list[ManifestSummary]) -> pa.Table | None:
        """The shard's rows in the first index of its manifests that is whole."""
        for owner in owners:
            number = [p.name for p in owner.outputs if p.kind == "shard"].index(expected.name)
            for index in (p for p in owner.outputs if p.kind == "index"):
                with suppress(StillroomError, OSError, pa.ArrowException):
                    table = self.table(index)
                    return table.filter(pc.equal(table["shard"], number))
        return None

    def _index(self, expected: ExpectedObject) -> pa.Table:
        if sha256_in(self.store, expected.name) != expected.sha256:
            raise CorruptError(f"{expected.name} is damaged itself")
        return from_parquet(self.store.get(expected.name))


def sha256_in(store: Store, name: str) -> str:
    """Hex sha256 of an object as the store holds it now, read in blocks."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(BLOCK))
    with store.open(name, cached=False) as stream:
        while size := stream.readinto(buffer):  # type: ignore[attr-defined]
            hasher.update(buffer[:size])
    return hasher.hexdigest()


def _reason(error: CorruptError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ").partition(";")[0]


def info_defects(store: Store, contents: StoreContents) -> Iterator[tuple[str, str, str]]:
    """(name, kind, detail) of every `_info.json` that is missing from a head's shards or differs from its manifest.

    One in a folder that no manifest names is a stray, as everything in that folder is.
    """
    heads = {folder: m for m in contents.current.values() if (folder := shard_folder_of(m))}
    there = {name.rpartition("/")[0] for name in contents.sizes if name.endswith(f"/{INFO}")}
    accounted = {shard_folder_of(m) for m in contents.manifests.values()}
    for folder in sorted((there & accounted) | set(heads)):
        name = f"{folder}/{INFO}"
        if folder not in there:
            yield name, MISSING, "not there"
            continue
        # A run writes the file before it moves the head, so the file of the head's child is right too.
        head = heads.get(folder)
        own = [m for m in contents.manifests.values() if shard_folder_of(m) == folder]
        right = [m for m in own if head is None or head.key in (m.key, m.parent)]
        try:
            data = store.get(name)
        except MissingObjectError:
            yield name, MISSING, "not there"
            continue
        if not any(expected_info(store, manifest) == data for manifest in right):
            yield name, BYTES, "is not what the manifest of its shards says"


def shard_folder_of(manifest: ManifestSummary) -> str:
    """Folder of the newest shards of an ingest manifest; "" when it has none, or is of another stage."""
    shards = [p.name for p in manifest.outputs if p.kind == "shard" and manifest.stage == INGEST]
    return shards[-1].rpartition("/")[0] if shards else ""


def expected_info(store: Store, manifest: ManifestSummary) -> bytes:
    """What `_info.json` should hold."""
    return info_bytes(Manifest.from_bytes(store.get(manifest.name), manifest.name))
