"""What of a study's labels can be told before anything runs: from the corpus's tables alone, without its splits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import SpecError
from infra.storage.manifest import Manifest
from tasks.data.catalog import OK
from tasks.ingest.image_table import mask, matrix
from tasks.pipeline.context import Context
from tasks.spec.arms import TAUGHT
from tasks.spec.labels import LabelsSection
from tasks.study.design import Base, Condition, Study
from tasks.subset.choice import Patients
from tasks.subset.stage import SubsetWork


def has_pool(base: Base) -> bool:
    """Whether an image without a label may be for training; True where several corpora are not read for it."""
    if base.rows is None:
        return True
    table, labelled = base.rows, _labelled(base.rows)
    return bool((_trains(table) & ~labelled).any())


def check_labels(base: Base, study: Study) -> None:
    """Whether each condition can have the labels that it asks for, as far as the corpus's tables say it.

    Raises:
        SpecError: more patients are asked for than have a label, or a share leaves a class without any; it names
            condition, arm and key.
    """
    if base.rows is None:
        return
    patients = _patients(base, base.rows)
    for condition in study.conditions:
        labels = condition.change.get("labels") or {}
        where = f"{base.where}: condition {condition.name}, arm {TAUGHT}"
        count, share = labels.get("patients"), labels.get("share")
        if count is not None and count > len(patients.names):
            raise SpecError(
                f"{where}: study.patients: {count} are asked for, and at most {len(patients.names)} patients have a "
                "label"
            )
        if share is None or labels.get("least") is not None:
            continue
        empty = _surely_empty(patients, float(share))
        if len(empty):
            name, number = base.classes[int(empty[0])], int(patients.has[:, empty[0]].sum())
            raise SpecError(
                f"{where}: study.shares: {share:g} leaves no patient of class {name}, which at most {number} have; "
                "take a larger share, or set study.least: 1"
            )


def check_subsets(base: Base, study: Study, corpus: Manifest, context: Context) -> None:
    """The same on an ingested corpus, whose splits are known; reads catalogs, makes nothing.

    Raises:
        SpecError: as `check_labels`.
    """
    for condition in study.conditions:
        for fold in base.folds:
            labels = {**(condition.change.get("labels") or {}), **base.fold_labels(fold)}
            if labels:
                _check(condition, SubsetWork(context, corpus, LabelsSection.model_validate(labels)))


def _check(condition: Condition, work: SubsetWork) -> None:
    try:
        work.check()
    except SpecError as error:
        raise SpecError(f"condition {condition.name}, arm {TAUGHT}: {error} (study.least)") from error


def _surely_empty(patients: Patients, share: float) -> np.ndarray:
    """Classes of which no patient can be chosen, however the corpus is split.

    The first of n patients of a stratum is chosen from a share of 0.5 / n on, and a training set has at most as many.
    """
    sizes = np.bincount(patients.stratum)
    chosen = 0.5 / np.maximum(1, sizes) <= share
    reached = (patients.has & chosen[patients.stratum][:, None]).any(axis=0)
    return np.flatnonzero(patients.has.any(axis=0) & ~reached)


def _patients(base: Base, table: pa.Table) -> Patients:
    """Patients of labelled images that may be for training."""
    kept = table.filter(pa.array(_trains(table) & _labelled(table)))
    names = pc.if_else(pc.equal(kept["patient"], ""), kept["name"], kept["patient"]).to_pylist()
    many = matrix(kept["labels"].combine_chunks()) if base.task == "multilabel" else None
    has = kept["label"].to_numpy()[:, None] == np.arange(len(base.classes)) if many is None else many > 0
    return Patients.of(np.array(names, dtype=str), has, exclusive=many is None)


def _trains(table: pa.Table) -> np.ndarray:
    return np.asarray(mask(pc.and_(pc.equal(table["status"], OK), pc.is_in(table["split"], pa.array(["", "train"])))))


def _labelled(table: pa.Table) -> np.ndarray:
    single = table["label"].to_numpy() >= 0
    many = matrix(table["labels"].combine_chunks())
    return np.asarray(single if many is None else single | (many >= 0).any(axis=1))
