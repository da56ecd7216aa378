"""The real subsets, as a user has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, read_image
from tests.tasks.ingest.real_corpora import CORPORA
from tests.tasks.ingest.specs import run, spec

pytestmark = pytest.mark.real


def test_hyper_kvasir_with_its_official_split(real_data: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(
        spec(real_data / "hyper-kvasir", store, CORPORA["hyper-kvasir"], ingest={"size": 64}), cluster
    ).manifest
    facts = manifest.facts
    # The official 399, and frames without a label that are near duplicates of some of them.
    assert facts["images"] == {"train": 592, "val": 65, "test": 441}
    assert sum(facts["counts"]["test"].values()) == 399
    assert sum(n for split in facts["counts"].values() for n in split.values()) == 800
    assert (facts["unlabelled"], facts["quarantined"], facts["missing"]) == (298, 0, 0)
    folds, overlays = facts["notes"][:2]
    assert folds == "9862 of 10662 rows of 2_fold_split.csv have no image here"
    assert overlays.startswith("likely text or inset boxes: bbps-2-3 100 %, ")
    assert facts["near_duplicates"]["largest"] < 16


def test_hyper_kvasir_split_by_us_has_no_near_twins_between_splits(
    real_data: Path, store: LocalStore, cluster: Cluster
) -> None:
    corpus = {"adapter": "hyper-kvasir"}
    facts = run(spec(real_data / "hyper-kvasir", store, corpus, ingest={"size": 64}), cluster).manifest.facts
    assert facts["leaks"] == 0
    assert 60 <= facts["near_duplicates"]["clusters"] <= 100


def test_imo_fundus_through_a_table(real_data: Path, store: LocalStore, cluster: Cluster) -> None:
    corpus = {**CORPORA["imo-fundus"], "task": "ordinal", "classes": ["0", "NPDR", "PDR"]}
    manifest = run(spec(real_data / "imo-fundus", store, corpus, ingest={"size": 64}), cluster).manifest
    assert manifest.facts["images"] == {"train": 345, "val": 18, "test": 17}
    counts = manifest.facts["counts"]
    assert {c: sum(counts[s][c] for s in counts) for c in manifest.facts["classes"]} == {"0": 78, "NPDR": 22, "PDR": 6}
    assert manifest.facts["unlabelled"] == 274
    assert manifest.facts["leaks"] == 0
    loaded = Corpus(store, manifest)
    patients = [set(p for s in loaded.of_split(split) for p in s.patient) for split in ("train", "val", "test")]
    assert sum(len(p) for p in patients) == len(set.union(*patients)) == 301


def test_chest_x_rays_with_their_lists(real_data: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(
        spec(real_data / "chestx-ray14", store, CORPORA["chestx-ray14"], ingest={"size": 64}), cluster
    ).manifest
    facts = manifest.facts
    assert facts["classes"] == ["No Finding", "Pneumonia"]
    assert facts["images"] == {"train": 449, "val": 87, "test": 187}
    assert facts["leaks"] == 0
    shard = Corpus(store, manifest).of_split("val")[0]
    assert read_image(store, shard, 0)[:2] == b"\xff\xd8"
