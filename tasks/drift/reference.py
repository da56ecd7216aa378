"""The champion that a run is compared with, its training data, and what it said of its own validation and test images.

All of it is found from the tags of the registered version: they name the manifests of its corpus and of its evaluation.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from infra.errors import CorruptError
from infra.servers.tracking import connect, quiet
from infra.storage.manifest import DIGEST, Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import MissingObjectError, Store
from models.statistics.logit_shift import shifted
from models.statistics.ordinal import CutPoints, decide, expected_grade
from tasks.data.corpus import Corpus
from tasks.data.decisions import decision_of
from tasks.gate.opponent import Champion, answering

CORPUS_TAG, EVALUATE_TAG = "stillroom.manifest.ingest", "stillroom.manifest.evaluate"
"""Tags of a version: digests of the corpus that it learned from, and of its evaluation."""

STUDENT_TAG = "stillroom.student"

_CORPORA = ("ingest", "combine", "subset")


@dataclass(frozen=True)
class Reference:
    """What the champion learned from.

    Attributes:
        version: its number.
        corpus: None where the store does not have it any more, or nothing says which it was.
    """

    version: str
    corpus: Corpus | None


@dataclass(frozen=True)
class Answers:
    """What a model says of N images.

    Attributes:
        classes: names, in the order of the columns.
        prob: float64 [N, C].
        decided: int [N], the class that it decides for, with its shift or cut points; None of several labels an image.
    """

    classes: list[str]
    prob: np.ndarray
    decided: np.ndarray | None


def compared_version(champion: Champion) -> tuple[str, dict[str, str]] | None:
    """Number and tags of the version that a run's images are compared with; None for none.

    A student that serves already is compared with the champion before it, as the gate compared it: so the same run
    finds its result again once its student was promoted.

    Raises:
        UsageError, TransientError: MLflow does not let us read, or fails.
    """
    if not champion.same:
        return champion.version, dict(champion.tags)
    number = champion.against.partition(" ")[0]
    if not number:
        return None
    from mlflow.exceptions import MlflowException

    with answering(f"version {number} of {champion.name}"), quiet():
        try:
            return number, dict(connect().get_model_version(champion.name, number).tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return number, {}


def reference_of(store: Store, version: str, tags: dict[str, str]) -> Reference:
    """The training data of a registered version."""
    manifest = manifest_of(store, _CORPORA, tags.get(CORPUS_TAG, ""))
    if manifest is None:
        return Reference(version, None)
    corpus = Corpus(store, manifest)
    try:
        corpus.catalog  # noqa: B018  (whether it is there)
    except (MissingObjectError, CorruptError):
        return Reference(version, None)
    return Reference(version, corpus)


def answers_of(store: Store, tags: dict[str, str]) -> Answers | None:
    """What a registered version said of its labelled validation and test images; None where the store lost it."""
    evaluation = manifest_of(store, ("evaluate",), tags.get(EVALUATE_TAG, ""))
    best = None if evaluation is None else evaluation.facts.get("best")
    if evaluation is None or best is None or best["key"] != tags.get(STUDENT_TAG):
        return None
    filters = [("arm", "=", best["arm"]), ("seed", "=", best["seed"]), ("split", "in", ["val", "test"])]
    try:
        data = read_output(store, evaluation.output(kind="predictions"))
    except (MissingObjectError, CorruptError):
        return None
    prob = pq.read_table(io.BytesIO(data), columns=["prob"], filters=filters)["prob"].to_pylist()
    if not prob:
        return None
    known = np.array(prob, np.float64)
    how = decision_of(evaluation.facts, best["arm"], best["seed"])
    many = evaluation.facts.get("task") == "multilabel"
    return Answers(list(evaluation.facts["classes"]), known, None if many else _decided(how, known))


def manifest_of(store: Store, stages: Sequence[str], digest: str) -> Manifest | None:
    """The manifest of a digest; None where no stage of these has it, or it is damaged."""
    for stage in stages if digest else ():
        for name in sorted(store.sizes(f"manifests/{stage}/")):
            try:
                data = store.get(name)
                if json.loads(data).get(DIGEST) == digest:
                    return Manifest.from_bytes(data, name)
            except (MissingObjectError, CorruptError, ValueError, AttributeError):
                continue
    return None


def _decided(how: dict[str, Any], prob: np.ndarray) -> np.ndarray:
    if how.get("cut_points"):
        return decide(expected_grade(prob), CutPoints(tuple(how["cut_points"]), ()))
    if how.get("logit_shift"):
        return np.asarray(shifted(prob, np.array(how["logit_shift"])).argmax(axis=1))
    return np.asarray(prob.argmax(axis=1))
