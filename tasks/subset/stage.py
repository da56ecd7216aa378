"""The subset stage: a training set of which some labels, or some unlabelled images, are not used.

Its manifest names the shards and the index of the whole set, with a catalog of its own; later stages read it as they
read that of an ingest. Soft labels belong to shards: what was labelled for the whole set is not labelled again.
Validation and test images keep their labels. With folds the catalog gives rows other splits than their shards have;
`tasks.data.corpus` then shows a shard once for each split.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import unit_key
from infra.storage.manifest import Manifest
from tasks.data.catalog import LEFT_OUT, OK, SPLITS, table_of
from tasks.data.corpus import FOLD
from tasks.ingest.corpus_tables import store_table
from tasks.ingest.image_table import list_column, mask, matrix, patient_ids_of
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec
from tasks.spec.labels import LabelsSection
from tasks.subset.choice import Patients, choose, places
from tasks.subset.folds import count_of, folded

STAGE, VERSION = "subset", 1

HIDDEN = "labels: its label is not used here"
NOT_POOLED = "labels.pool: this unlabelled image is not used here"
FACT = "subset"
"""Fact: manifest of the whole set, labelled patients and images that are kept and that there are, and of the pool."""


class SubsetWork(StageWork):
    """Catalog and manifest of a training set with fewer labels.

    Outputs by `meta["kind"]`: those of the whole set, but another `catalog`.

    Raises:
        SpecError: more patients are asked for than there are, or a class is left without any.
        MissingObjectError: the catalog of the whole set is lost; repair makes it again.
    """

    stage, version = STAGE, VERSION

    def __init__(self, context: Context, whole: Manifest, section: LabelsSection) -> None:
        super().__init__(context)
        self.whole, self.section = whole, section

    @cached_property
    def key(self) -> str:
        return unit_key(STAGE, VERSION, inputs=[self.whole.digest], section=self.section.identity())

    def check(self) -> None:
        """Raise what `make` would; makes nothing."""
        _kept(self._folded(table_of(self.store, self.whole, "catalog")), self.whole.facts, self.section)

    def make(self) -> Made:
        whole, title = self.whole, str(self.whole.facts["corpus"])
        whole_catalog = self._folded(table_of(self.store, whole, "catalog"))
        catalog, counts = _kept(whole_catalog, whole.facts, self.section)
        output, new = store_table(self.cache, title, "catalog", catalog)
        facts = {
            **whole.facts,
            **_counted(catalog, whole.facts),
            FACT: {"manifest": whole.digest, **counts},
            **({FOLD: [self.section.fold, count_of(self.section.folds)]} if self.section.folds is not None else {}),
            "notes": [*whole.facts.get("notes", []), _note(counts)],
        }
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[whole.digest],
            section={**whole.section, "labels": self.section.identity()},
            outputs=[*(each for each in whole.outputs if each.meta["kind"] != "catalog"), output],
            quarantine=whole.quarantine,
            facts=facts,
        )
        return Made(manifest, made=new, total=1)

    def _folded(self, catalog: pa.Table) -> pa.Table:
        """The catalog with the splits of the fold."""
        section, facts = self.section, self.whole.facts
        if section.folds is None or section.fold is None:
            return catalog
        has, known = _classes(catalog, facts)
        split, leak = folded(
            catalog,
            table_of(self.store, self.whole, "index"),
            facts,
            used=mask(pc.equal(catalog["status"], OK)),
            has=has,
            known=known,
            folds=section.folds,
            fold=section.fold,
            seed=section.seed,
        )
        return _set(_set(catalog, "split", pa.array(split, pa.string())), "leak", pa.array(leak))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        counts = {name: both for name, both in result.manifest.facts[FACT].items() if name != "manifest"}
        rows = [
            {"": name.replace("_", " "), "used": f"{used:,}", "of": f"{of:,}"} for name, (used, of) in counts.items()
        ]
        title = result.manifest.facts["corpus"]
        return [Artifact(key=f"subset-{slug(title)}", description="what of the training set is used", content=rows)]


def _kept(catalog: pa.Table, facts: dict[str, Any], section: LabelsSection) -> tuple[pa.Table, dict[str, list[int]]]:
    """The catalog with fewer labels, and [used, of all] of patients and images."""
    classes = facts["classes"]
    multilabel = facts["task"] == "multilabel"
    training = mask(pc.and_(pc.equal(catalog["status"], OK), pc.equal(catalog["split"], "train")))
    has, known = _classes(catalog, facts)
    labelled = training & known
    patient = patient_ids_of(catalog["patient"].combine_chunks(), catalog["key"].combine_chunks()).to_numpy(
        zero_copy_only=False
    )
    patients = Patients.of(patient[labelled], has[labelled], exclusive=not multilabel)
    chosen = choose(
        patients, classes, share=section.share, count=section.patients, least=section.least, seed=section.seed
    )
    keeps = np.isin(patient, patients.names[chosen])
    hidden = labelled & ~keeps
    unlabelled = training & ~labelled
    waiting = np.unique(patient[unlabelled].astype(str))
    used = waiting[places(waiting, np.zeros(len(waiting), int), section.seed) <= section.pool]
    dropped = unlabelled & ~np.isin(patient, used)
    counts = {
        "labelled_patients": [int(chosen.sum()), len(chosen)],
        "labelled_images": [int((labelled & keeps).sum()), int(labelled.sum())],
        "unlabelled_images": [int((unlabelled & ~dropped).sum()), int(unlabelled.sum())],
        "images_without_their_label": [int(hidden.sum()) if section.others == "pool" else 0, int(hidden.sum())],
    }
    label = catalog["label"].to_numpy()
    catalog = _set(catalog, "label", pa.array(np.where(hidden, -1, label), pa.int32()))
    labels = matrix(catalog["labels"])
    if labels is not None:
        catalog = _set(
            catalog, "labels", list_column(np.where(hidden[:, None], -1, labels).astype(np.int8), len(labels))
        )
    for rows, why in (
        (hidden if section.others == "left_out" else np.zeros_like(hidden), HIDDEN),
        (dropped, NOT_POOLED),
    ):
        catalog = _set(catalog, "status", pc.if_else(pa.array(rows), LEFT_OUT, catalog["status"]))
        catalog = _set(catalog, "reason", pc.if_else(pa.array(rows), why, catalog["reason"]))
    return catalog, counts


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values.cast(table.schema.field(at).type))


def _counted(catalog: pa.Table, facts: dict[str, Any]) -> dict[str, Any]:
    """Those of an ingest's facts that count used images, counted again."""
    used = mask(pc.equal(catalog["status"], OK))
    has, known = _classes(catalog, facts)
    rows = {split: used & mask(pc.equal(catalog["split"], split)) for split in SPLITS}
    left_out = int(mask(pc.equal(catalog["status"], LEFT_OUT)).sum())
    return {
        "counts": {
            split: dict(zip(facts["classes"], map(int, has[own].sum(axis=0)), strict=True))
            for split, own in rows.items()
        },
        "images": {split: int(own.sum()) for split, own in rows.items()},
        "unlabelled": int((used & ~known).sum()),
        **({"left_out": left_out} if left_out else {}),
    }


def _classes(catalog: pa.Table, facts: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Classes of each image, bool [N, C], and whether it has a label, bool [N]."""
    if facts["task"] == "multilabel":
        labels = matrix(catalog["labels"])
        if labels is not None:
            return labels > 0, np.asarray((labels >= 0).any(axis=1))
    label = catalog["label"].to_numpy()
    return label[:, None] == np.arange(len(facts["classes"])), label >= 0


def _note(counts: dict[str, list[int]]) -> str:
    patients, images, pool = (counts[name] for name in ("labelled_patients", "labelled_images", "unlabelled_images"))
    return (
        f"labels of {images[0]:,} of {images[1]:,} labelled training images are used, of {patients[0]:,} of "
        f"{patients[1]:,} patients; {pool[0]:,} of {pool[1]:,} images without a label"
    )


def subset(context: Context, whole: Manifest, section: LabelsSection) -> StageResult:
    """Run the stage; see `SubsetWork`."""
    return run_stage(SubsetWork(context, whole, section))


def _bind(context: Context, spec: Spec, *, whole: Manifest) -> SubsetWork:
    assert spec.labels is not None
    return SubsetWork(context, whole, spec.labels)


SUBSET = Stage(STAGE, _bind, folders=("catalogs/",))
