"""What holds erased images: ingest manifests, what was made of them, units, files of teachers; and who learned them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.combine.stage import STAGE as COMBINE
from tasks.data.catalog import table_of
from tasks.data.tombstones import Tombstones
from tasks.data.weights import TEACHER_FILES
from tasks.distill.request import DISTILL_NAME, TEACH_NAME
from tasks.evaluate.stage import STAGE as EVALUATE
from tasks.evaluate.teacher_check import STAGE as COMPARE
from tasks.gate.stage import STAGE as GATE
from tasks.ingest.image_table import as_text, mask
from tasks.ingest.shard import STAGE as INGEST
from tasks.label.card import STAGE as LABEL_CARD
from tasks.label.job import STAGE as LABEL
from tasks.label.job import LabelIdentity
from tasks.maintenance.forgetting.labels import label_records
from tasks.maintenance.store_contents import INFO, UNITS, ManifestSummary, StoreContents
from tasks.register.stage import STAGE as REGISTER
from tasks.report.stage import STAGE as REPORT
from tasks.select.stage import STAGE as SELECT
from tasks.subset.stage import STAGE as SUBSET

FOLDERS = ("shards/", "catalogs/", "labels/", "weights/", "annotate/", "predictions/", "reports/")
"""Folders whose objects may show single images; below each a folder a corpus. Weights of networks lie elsewhere."""

_LABELLED, _JUDGED = (LABEL, LABEL_CARD, SELECT), (COMPARE, EVALUATE, GATE, REPORT)


@dataclass(frozen=True)
class AffectedManifest:
    """An ingest manifest whose corpus has erased images."""

    manifest: Manifest
    rows: pa.Table  # of its catalog, schema CATALOG: the erased ones
    shards: frozenset[str]  # ids of the shards that hold them

    @property
    def keys(self) -> set[str]:
        """Keys of the erased images."""
        return set(self.rows["key"].to_pylist())

    @property
    def splits(self) -> set[str]:
        """Splits of the erased images; "" where one has none."""
        return set(self.rows["split"].to_pylist())

    @property
    def references(self) -> set[str]:
        """What manifests that were made from it name."""
        tables = [each.id for each in self.manifest.outputs if each.meta["kind"] != "shard"]
        return {self.manifest.digest, self.manifest.key, *tables, *self.shards}


@dataclass(frozen=True)
class AffectedSet:
    """A training set of several corpora, of which one has erased images, or one with fewer labels."""

    summary: ManifestSummary
    title: str
    splits: frozenset[str]  # in which the erased images stand there

    @property
    def references(self) -> set[str]:
        """What manifests that were made from it name, beside shards."""
        tables = [each.id for each in self.summary.outputs if each.kind != "shard"]
        return {self.summary.digest, self.summary.key, *tables}


@dataclass
class LearnedBy:
    """Networks that were trained, or chosen, with erased images, and registered versions of them."""

    models: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, other: LearnedBy) -> None:
        """Add what is not there yet."""
        for own, more in ((self.models, other.models), (self.versions, other.versions)):
            own += [each for each in more if each not in own]

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"models": self.models, "versions": self.versions}


def affected_manifests(store: Store, manifests: Sequence[Manifest], tombstones: Tombstones) -> list[AffectedManifest]:
    """Those of a corpus's ingest manifests that have erased images.

    Raises:
        CorruptError, MissingObjectError: a catalog or index is damaged or lost.
    """
    rows: dict[str, pa.Table] = {}
    found = []
    for manifest in manifests:
        name = manifest.output(kind="catalog").name
        if name not in rows:
            catalog = table_of(store, manifest, "catalog")
            rows[name] = catalog.filter(pa.array(tombstones.matches(catalog)))
        if not len(rows[name]):
            continue
        index = table_of(store, manifest, "index")
        lost = index.filter(pc.is_in(index["key"], value_set=as_text(rows[name]["key"])))
        shards = manifest.outputs_where(kind="shard")
        found.append(
            AffectedManifest(manifest, rows[name], frozenset(shards[n].id for n in lost["shard"].unique().to_pylist()))
        )
    return found


def affected_sets(store: Store, contents: StoreContents, affected: Sequence[AffectedManifest]) -> list[AffectedSet]:
    """Training sets that have erased images: of several corpora, and those with fewer labels."""
    of_corpus = {each.manifest.digest: each for each in affected}
    found = []
    for summary in _of(contents, (COMBINE,)):
        if not summary.refers & of_corpus.keys():
            continue
        facts = Manifest.from_bytes(store.get(summary.name), summary.name).facts
        splits: set[str] = set()
        for row in facts["corpora"]:
            if row["manifest"] in of_corpus:
                own = of_corpus[row["manifest"]].splits
                splits |= {"all": own, "test": {"test"}, "pool": {"train"}}[row["use"]]
        found.append(AffectedSet(summary, str(facts["corpus"]), frozenset(splits)))
    whole: list[AffectedManifest | AffectedSet] = [*affected, *found]
    for each in whole:
        digest = each.manifest.digest if isinstance(each, AffectedManifest) else each.summary.digest
        title = each.manifest.facts["corpus"] if isinstance(each, AffectedManifest) else each.title
        parts = [part for part in _of(contents, (SUBSET,)) if digest in part.refers]
        found += [AffectedSet(part, str(title), frozenset(each.splits)) for part in parts]
    return found


def learned_by(store: Store, contents: StoreContents, affected: Sequence[AffectedManifest]) -> LearnedBy:
    """Who learned of the erased images: validation images count, because they chose weights and steps."""
    corpora = {each.manifest.digest for each in affected if each.splits & {"train", "val"}}
    sets = affected_sets(store, contents, affected)
    corpora |= {each.summary.digest for each in sets if each.splits & {"train", "val"}}
    trained = [m for m in _of(contents, (DISTILL_NAME, TEACH_NAME)) if m.refers & corpora]
    digests = {each.digest for each in trained}
    registered = [m for m in _of(contents, (REGISTER,)) if m.refers & digests]
    found = LearnedBy()
    for summary in trained:
        one = Manifest.from_bytes(store.get(summary.name), summary.name)
        found.models.append(
            {"arm": one.section.get("arm", ""), "seed": one.section.get("seed"), "manifest": summary.name}
        )
    for summary in registered:
        one = Manifest.from_bytes(store.get(summary.name), summary.name)
        found.versions.append({"name": one.facts.get("name", ""), "version": one.facts.get("version", "")})
    return found


def derived_manifests(
    contents: StoreContents, affected: Sequence[AffectedManifest], sets: Sequence[AffectedSet]
) -> set[str]:
    """Names of manifests that were made from erased images and may show them: all but those of networks."""
    references = set().union(*(each.references for each in affected), *(each.references for each in sets))
    found = {each.summary.name for each in sets}
    while True:
        more = [m for m in _of(contents, _LABELLED) if m.name not in found and m.refers & references]
        if not more:
            break
        found |= {each.name for each in more}
        references |= {reference for each in more for reference in (each.digest, each.key)}
    judged = {each.manifest.digest for each in affected if each.splits & {"val", "test"}}
    judged |= {each.summary.digest for each in sets if each.splits & {"val", "test"}}
    return found | {m.name for m in _of(contents, _JUDGED) if m.refers & judged}


def affected_units(
    store: Store, contents: StoreContents, titles: Collection[str], affected: Sequence[AffectedManifest]
) -> set[str]:
    """Names of records of units that hold erased images, name them, or do not tell which images they are of.

    Args:
        titles: of the corpus, and of the training sets that it is part of.
    """
    shards = frozenset[str]().union(*(each.shards for each in affected))
    objects = {o.name for each in affected for o in each.manifest.outputs if o.id in shards}
    found = {name for name in contents.broken if name.startswith(UNITS)}
    of_manifest = _shards_of_label_units(store, contents)
    for name, record in label_records(store, contents):
        if not record.outputs[0].name.startswith(tuple(f"labels/{title}/" for title in titles)):
            continue
        identity = LabelIdentity.of_record(record)
        shard = identity.shard if identity is not None else of_manifest.get(record.key)
        if shard is None or shard in shards:
            found.add(name)
    judged = tuple(f"predictions/{title}/" for title in titles)
    for name, outputs in contents.units.items():
        if objects.intersection(outputs) or any(each.startswith(judged) for each in outputs):
            found.add(name)
    keys = set[str]().union(*(each.keys for each in affected))
    ingests = [name for name in contents.under(f"{UNITS}{INGEST}/") if name not in found and name in contents.units]
    return found | {name for name in ingests if keys & _texts(json.loads(store.get(name)))}


def teacher_tables(store: Store, contents: StoreContents, affected: Sequence[AffectedManifest]) -> list[str]:
    """Files of teachers that are tables with a row of an erased image."""
    keys = pa.array(sorted(set[str]().union(*(each.keys for each in affected))), pa.string())
    found = []
    for name in contents.under(TEACHER_FILES):
        if not name.endswith(".parquet") or not len(keys):
            continue
        with store.open(name) as file:
            table = pq.read_table(file, columns=["key"])
        if mask(pc.is_in(table["key"].cast(pa.string()), value_set=keys)).any():
            found.append(name)
    return found


def unnamed_objects(
    contents: StoreContents, titles: Collection[str], manifests: Collection[str], units: Collection[str]
) -> list[str]:
    """Objects of corpora that no manifest and no unit names once some are gone; no run is writing any.

    Args:
        manifests: names of those that go.
        units: names of the records that go.
    """
    named = {o.name for m in contents.manifests.values() if m.name not in manifests for o in m.outputs}
    named |= {o for name, outputs in contents.units.items() if name not in units for o in outputs}
    in_use = {name.rpartition("/")[0] for name in named}
    found = []
    for folder in (f"{folder}{title}/" for folder in FOLDERS for title in sorted(titles)):
        for name in contents.under(folder):
            listing = name.endswith(f"/{INFO}") and name.rpartition("/")[0] in in_use
            found += [] if name in named or listing else [name]
    return found


def _of(contents: StoreContents, stages: Collection[str]) -> list[ManifestSummary]:
    return [each for _, each in sorted(contents.manifests.items()) if each.stage in stages]


def _shards_of_label_units(store: Store, contents: StoreContents) -> dict[str, str]:
    """Id of the shard that a label unit is of, by its key, as manifests say."""
    found = {}
    for summary in _of(contents, (LABEL,)):
        manifest = Manifest.from_bytes(store.get(summary.name), summary.name)
        for output in manifest.outputs_where(kind="soft"):
            found[output.unit] = manifest.inputs[output.meta["shard"]]
    return found


def _texts(value: Any) -> set[str]:
    """All strings within a JSON document."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set[str]().union(*(_texts(each) for each in inner))
