"""Lineage: what a registered version was made of, down to the digests of raw images, each held against the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import digest_of
from infra.errors import StillroomError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.catalog import from_parquet
from tasks.data.weights import TEACHER_FILES
from tasks.maintenance.store_contents import MANIFESTS, ManifestSummary, StoreContents, read_contents
from tasks.maintenance.verify import BYTES, MANIFEST, MISSING, Defect, sha256_in, verify
from tasks.register.provenance import CODE_TAG, ENVIRONMENT_TAG, LICENCES_TAG, SPEC_TAG, UNKNOWN
from tasks.registry.resolve import RegisteredVersion, resolve

_MANIFEST_TAG, _WEIGHTS_TAG = "stillroom.manifest.", "stillroom.weights."
_STUDENTS, _CORPORA = ("distill", "teach"), ("ingest", "combine")
_ORDER = ("gate", "export", "evaluate", "report", "distill", "teach", "select", "label", "combine", "ingest")
"""Stages from the version back to the images, as the tree shows them."""

Progress = Callable[[int, int], None]


@dataclass
class LineageNode:
    """One manifest that the version was made of.

    Attributes:
        named: what names it: a tag of the version, or another manifest.
        digest: of the manifest; "" where it was found by its key alone.
        facts: what is worth reading of it; empty where it is not there, or nobody looked.
        objects, bytes: of its outputs.
    """

    stage: str
    named: str
    digest: str
    key: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    objects: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return dict(vars(self))


@dataclass
class Lineage:
    """What a version was made of.

    Attributes:
        licences: of the images, by corpus.
        weights: of teachers, by their name: their id.
        store: address of the store that it was held against; "" where it was not.
        objects, bytes: of the store that were read and compared.
    """

    version: RegisteredVersion
    code: str
    environment: dict[str, str]
    spec: str
    licences: dict[str, str]
    weights: dict[str, str]
    nodes: list[LineageNode] = field(default_factory=list)
    store: str = ""
    defects: list[Defect] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0

    @property
    def sound(self) -> bool:
        """Whether no defect was found."""
        return not self.defects

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        held = self.version
        return {
            **{name: getattr(held, name) for name in ("name", "version", "alias", "run_id")},
            **{name: getattr(self, name) for name in ("code", "environment", "spec", "licences", "weights", "store")},
            "nodes": [node.to_json() for node in self.nodes],
            "defects": [defect.to_json() for defect in self.defects],
            "objects": self.objects,
            "bytes": self.bytes,
        }


def lineage(target: str, store: Store | None = None, progress: Progress | None = None) -> Lineage:
    """The lineage of a registered version, held against the store that it was made in.

    Every manifest that a tag names is there with that digest, every output of each has its sha256, the files of
    teachers those of their names, and every row of a corpus's index has the digest of its raw image that the catalog
    has.

    Args:
        target: NAME (its champion), NAME@ALIAS or NAME/VERSION.
        store: None: only what the registry says, held against nothing.
        progress: called with (bytes read, bytes to read).

    Raises:
        UsageError: no such version.
        TransientError: the registry cannot be reached.
    """
    held = resolve(target)
    tags = held.tags
    found = Lineage(
        version=held,
        code=tags.get(CODE_TAG, UNKNOWN),
        environment=_json(tags.get(ENVIRONMENT_TAG)),
        spec=tags.get(SPEC_TAG, UNKNOWN),
        licences=_json(tags.get(LICENCES_TAG)),
        weights={name.removeprefix(_WEIGHTS_TAG): tags[name] for name in sorted(tags) if name.startswith(_WEIGHTS_TAG)},
    )
    named = [
        LineageNode(*_stage_and_name(name), digest=tags[name])
        for name in sorted(tags)
        if name.startswith(_MANIFEST_TAG)
    ]
    if store is None:
        found.nodes = _ordered(named)
        return found
    found.store = store.url
    _Walk(store, found, progress).run(named)
    return found


def _stage_and_name(tag: str) -> tuple[str, str]:
    stage, _, name = tag.removeprefix(_MANIFEST_TAG).partition(".")
    return stage, name or "a tag of the version"


def _json(text: str | None) -> dict[str, str]:
    return {} if text is None else dict(json.loads(text))


def _ordered(nodes: Iterable[LineageNode]) -> list[LineageNode]:
    place = {stage: number for number, stage in enumerate(_ORDER)}
    return sorted(nodes, key=lambda node: (place.get(node.stage, len(place)), node.named, node.key))


class _Walk:
    """From the manifests that tags name to all that they were made of."""

    def __init__(self, store: Store, found: Lineage, progress: Progress | None) -> None:
        self.store, self.found, self.progress = store, found, progress
        self.contents: StoreContents = read_contents(store)
        self.by: dict[str, ManifestSummary] = {}
        for each in self.contents.manifests.values():
            self.by |= {each.digest: each, each.key: each}
        self.manifests: dict[str, Manifest] = {}
        self.nodes: list[LineageNode] = []

    def run(self, named: list[LineageNode]) -> None:
        waiting = list(named)
        while waiting:
            node = waiting.pop()
            summary = self.by.get(node.digest or node.key)
            if summary is None:
                self.nodes.append(node)
                self._defect(f"{node.stage} manifest {node.digest or node.key}", MISSING, self._why_missing(node))
            elif summary.name not in self.manifests:
                manifest = Manifest.from_bytes(self.store.get(summary.name), summary.name)
                self.manifests[summary.name] = manifest
                node.key, node.digest, node.facts = manifest.key, manifest.digest, _facts(manifest)
                node.objects, node.bytes = len(manifest.outputs), sum(each.bytes for each in manifest.outputs)
                self.nodes.append(node)
                waiting += self._made_of(manifest)
        report = verify(self.store, manifests=self.manifests.values(), progress=self.progress)
        self.found.objects, self.found.bytes = report.objects, report.bytes
        known = {defect.object for defect in report.defects}
        self.found.defects += report.defects
        self._teachers()
        for manifest in self.manifests.values():
            if manifest.stage in _CORPORA:
                self._raw_images(manifest, known)
        self.found.nodes = _ordered(self.nodes)

    def _made_of(self, manifest: Manifest) -> list[LineageNode]:
        """Manifests that one was made of, beside those that tags of the version name."""
        about = f"{manifest.stage} {manifest.key[:12]}"
        if manifest.stage == "combine":
            return [LineageNode("ingest", about, digest=digest) for digest in manifest.inputs]
        if manifest.stage == "label":
            wanted = {manifest.facts.get("weights"), *manifest.facts.get("files", ())}
            trained = [
                each
                for each in self.contents.manifests.values()
                if each.stage in _STUDENTS and any({part.id, part.sha256} & wanted for part in each.outputs)
            ]
            return [LineageNode(each.stage, about, digest=each.digest) for each in trained]
        if manifest.stage in _STUDENTS:
            before = [self.by[key] for key in manifest.inputs if key in self.by]
            wanted_stages = (*_STUDENTS, "label", "select")
            return [
                LineageNode(each.stage, about, digest=each.digest) for each in before if each.stage in wanted_stages
            ]
        return []

    def _why_missing(self, node: LineageNode) -> str:
        broken = [name for name in self.contents.broken if name.startswith(f"{MANIFESTS}{node.stage}/")]
        more = f"; damaged ones of this stage: {', '.join(sorted(broken))}" if broken else ""
        return f"named by {node.named}; the store has no manifest of this digest{more}"

    def _teachers(self) -> None:
        """Files of teachers in the store: each has the sha256 of its name."""
        files = {
            name.removeprefix(TEACHER_FILES).partition(".")[0]: name for name in self.contents.under(TEACHER_FILES)
        }
        wanted = set(self.found.weights.values())
        for manifest in self.manifests.values():
            wanted |= set(manifest.facts.get("files", ())) if manifest.stage == "label" else set()
        for digest in sorted(wanted & files.keys()):
            self.found.objects += 1
            self.found.bytes += self.contents.sizes[files[digest]]
            if sha256_in(self.store, files[digest]) != digest:
                self._defect(files[digest], BYTES, "bytes are not those of its name (file of a teacher)")

    def _raw_images(self, manifest: Manifest, known: set[str]) -> None:
        """Whether index and catalog agree on the digest of each image's source file."""
        index, catalog = (manifest.output(kind=kind) for kind in ("index", "catalog"))
        if known & {index.name, catalog.name}:
            return
        try:
            rows, images = (from_parquet(read_output(self.store, each)) for each in (index, catalog))
        except (StillroomError, OSError, pa.ArrowException) as error:
            self._defect(index.name, BYTES, f"cannot be read: {error}")
            return
        place = pc.index_in(rows["key"], value_set=images["key"])
        told = images["source_sha256"].take(place)
        same = pc.fill_null(pc.equal(told, rows["source_sha256"]), False)
        wrong = rows["key"].filter(pc.invert(same)).to_pylist()
        if wrong:
            what = "the catalog has another digest of the raw image than the index"
            self.found.defects.append(Defect(catalog.name, MANIFEST, what, tuple(wrong)))
        node = next(each for each in self.nodes if each.key == manifest.key)
        pairs = sorted(zip(rows["key"].to_pylist(), rows["source_sha256"].to_pylist(), strict=True))
        node.facts |= {"images": len(pairs), "raw_images": digest_of(pairs)}

    def _defect(self, name: str, kind: str, detail: str) -> None:
        self.found.defects.append(Defect(name, kind, detail))


def _facts(manifest: Manifest) -> dict[str, Any]:
    """What is worth reading of a manifest."""
    facts, kinds = manifest.facts, [str(each.meta.get("kind", "")) for each in manifest.outputs]
    names = {
        "gate": ("verdict", "why"),
        "evaluate": ("metric",),
        "distill": ("model", "arm", "seed", "parameters"),
        "teach": ("model", "arm", "seed", "parameters"),
        "label": ("teacher", "weights", "rows"),
    }.get(manifest.stage, ())
    found = {name: facts[name] for name in names if facts.get(name) not in (None, "")}
    if manifest.stage in _CORPORA:
        found = {"corpus": facts["corpus"], "shards": kinds.count("shard")}
    elif manifest.stage == "label":
        found["shards"] = len(_distinct(manifest.outputs))
    return found


def _distinct(outputs: Iterable[Output]) -> set[Any]:
    return {each.meta.get("shard") for each in outputs}
