"""A camera that only one site has: what the report says of it, and what a student says that never saw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.distill.stage import distill
from tasks.evaluate.stage import evaluate
from tasks.ingest.stage import ingest
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY
from tests.tasks.corpora.layouts import csv

SIDE, IMAGES = 32, 240


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright or dark squares, a patient an image; the camera of site B shows them as negatives, on a later day."""
    folder = tmp_path_factory.mktemp("sites")
    rng, rows = np.random.default_rng(0), []
    for number in range(IMAGES):
        bright, site = number % 2, "AB"[number // 2 % 2]
        pixels = rng.normal(110, 12, (SIDE, SIDE, 3))
        y, x = rng.integers(2, SIDE - 14, 2)
        pixels[y : y + 12, x : x + 12] += 70 if bright else -70
        picture = np.clip(255 - pixels if site == "B" else pixels, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"n{number:03d}.png"), picture)
        rows.append(f"n{number:03d},{('dark', 'bright')[bright]},p{number},{site},{2018 + 2 * (site == 'B')}-03-01")
    csv(folder / "labels.csv", "name,label,patient,site,date", rows)
    return folder


def spec_of(root: Path, store: LocalStore, split: dict[str, Any]) -> Spec:
    table = {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient"}
    return Spec.model_validate(
        {
            "name": "sites",
            "store": store.url,
            "corpus": {
                "adapter": "table",
                "root": str(root),
                "name": "sites",
                "table": {**table, "attributes": {"site": "site", "date": "date"}},
                "split": {"test": 0.4, **split},
            },
            "ingest": {"encode": "keep"},
            "views": {"size": SIDE, "count": 1},
            "teachers": [{"name": "t", "model": "micro_xs"}],
            "student": {"model": "micro_xs", "train": {"steps": 150, "batch": 16, "lr": 0.01}},
            "evaluate": {"bootstrap": 100, "baselines": False},
            "run": {"device": "cpu", "train": {"threads": 1}},
        }
    )


def evaluated(root: Path, store: LocalStore, cluster: Cluster, **split: Any) -> tuple[dict[str, Any], str, Corpus]:
    """Facts, report and corpus."""
    spec = spec_of(root, store, split)
    context = Context(store, cluster, spec.run)
    corpus = Corpus(store, ingest(context, spec).manifest)
    model = distill(context, corpus, [], None, spec, arm=LABELS_ONLY, seed=0).manifest
    found = evaluate(context, corpus, [model], spec).manifest
    return found.facts, store.get(found.output(kind="report").name).decode(), corpus


def test_the_worst_site_stands_in_the_report(root: Path, store: LocalStore, cluster: Cluster) -> None:
    facts, report, _ = evaluated(root, store, cluster)
    rows = facts["groups"]["by"]["site"]
    assert {row["group"] for row in rows} == {"A", "B"}
    assert facts["groups"]["worst"]["site"]["value"] == min(row["value"] for row in rows)
    assert "## Groups" in report
    assert "| site | test images |" in report


@pytest.mark.parametrize("held_out", [{"site": "B"}, {"date": {"from": 2019}}])
def test_a_site_or_year_that_training_never_saw_is_judged_alone(
    root: Path, store: LocalStore, cluster: Cluster, held_out: dict[str, Any]
) -> None:
    known, _, _ = evaluated(root, store, cluster)
    facts, _, corpus = evaluated(root, store, cluster, test_where=held_out)
    rows = corpus.catalog.to_pylist()
    assert {row["site"] for row in rows if row["split"] == "test"} == {"B"}
    assert {row["site"] for row in rows if row["split"] != "test"} == {"A"}
    (seen,) = (row["value"] for row in known["groups"]["by"]["site"] if row["group"] == "B")
    assert facts["arms"][LABELS_ONLY]["values"]["macro_f1"] < seen - 0.2
