"""Corrected labels laid over a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorpusError
from infra.storage.store import LocalStore
from tasks.data.catalog import table_of
from tasks.pipeline.stage import StageResult
from tests.tasks.corpora.layouts import csv, eyepacs, image, many_patients
from tests.tasks.ingest.specs import run, spec

HEADER = "key,label,who,when"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return eyepacs(tmp_path / "c", many_patients(20), pool=["90_left"])


def corrected(
    root: Path, store: LocalStore, cluster: Cluster, *rows: str, header: str = HEADER, **corpus: Any
) -> StageResult:
    path = csv(root.with_name("corrections.csv"), header, rows)
    return run(spec(root, store, {"corrections": str(path), **corpus}), cluster)


def catalog(store: LocalStore, found: StageResult) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in table_of(store, found.manifest, "catalog").to_pylist()}


def test_a_corrected_label_counts_and_says_who(root: Path, store: LocalStore, cluster: Cluster) -> None:
    before = catalog(store, run(spec(root, store), cluster))
    shards = set(store.sizes("shards"))
    found = corrected(root, store, cluster, "1_left,4,Dr A,2026-01-31", "train/90_left.jpeg,2,Dr B,2026-02-01")
    rows = catalog(store, found)
    assert (before["1_left"]["label"], rows["1_left"]["label"], rows["90_left"]["label"]) == (1, 4, 2)
    assert rows["1_left"]["reason"] == "label corrected by Dr A on 2026-01-31"
    assert "2 labels are corrections of 2 people; 2 differ from the corpus" in found.manifest.facts["notes"]
    assert set(store.sizes("shards")) >= shards


def test_a_change_of_the_file_is_noticed_and_makes_no_shard(root: Path, store: LocalStore, cluster: Cluster) -> None:
    corrected(root, store, cluster, "1_left,4,Dr A,2026-01-31")
    shards = set(store.sizes("shards"))
    assert corrected(root, store, cluster, "1_left,4,Dr A,2026-01-31").cached
    found = corrected(root, store, cluster, "1_left,3,Dr A,2026-01-31")
    assert catalog(store, found)["1_left"]["label"] == 3
    assert set(store.sizes("shards")) == shards


def test_the_last_correction_counts(root: Path, store: LocalStore, cluster: Cluster) -> None:
    rows = ["1_left,2,Dr B,2026-03-01", "1_left,4,Dr A,2026-01-31"]
    assert catalog(store, corrected(root, store, cluster, *rows))["1_left"]["label"] == 2


def test_a_blank_label_takes_one_away(root: Path, store: LocalStore, cluster: Cluster) -> None:
    assert catalog(store, corrected(root, store, cluster, "1_left,,Dr A,2026-01-31"))["1_left"]["label"] == -1


def test_several_labels_are_corrected_together(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    names = [f"n{number:02d}" for number in range(24)]
    for seed, name in enumerate(names):
        image(tmp_path / f"c/{name}.png", seed)
    csv(tmp_path / "c/labels.csv", "name,label", [f"{name},{('a', 'b', 'a|b')[i % 3]}" for i, name in enumerate(names)])
    table = {"csv": "labels.csv", "image": "name", "label": "label"}
    found = corrected(
        tmp_path / "c",
        store,
        cluster,
        "n00,b,Dr A,2026-01-31",
        "n01,none,Dr A,2026-01-31",
        adapter="table",
        table=table,
        task="multilabel",
    )
    rows = catalog(store, found)
    assert (rows["n00"]["labels"], rows["n01"]["labels"], rows["n02"]["labels"]) == ([0, 1], [0, 0], [1, 1])


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (
            ["1_lef,4,Dr A,2026-01-31"],
            r"corrections\.csv line 2: the corpus has no image '1_lef'; did you mean 1_left\?",
        ),
        (["1_left,7,Dr A,2026-01-31"], r"corrections\.csv line 2: label '7' is outside the classes"),
        (["1_left,4,,2026-01-31"], r"corrections\.csv line 2: who is ''"),
        (["1_left,4,Dr A,31.1.2026"], r"corrections\.csv line 2: who is 'Dr A' and when is '31\.1\.2026'"),
        (
            ["1_left,4,Dr A,2026-01-31", "1_left,3,Dr B,2026-01-31"],
            r"line 3 and corrections\.csv line 2 correct '1_left' on one day to different labels",
        ),
    ],
)
def test_a_wrong_row_is_named(root: Path, store: LocalStore, cluster: Cluster, rows: list[str], match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        corrected(root, store, cluster, *rows)


def test_an_absent_column_or_file_is_named(root: Path, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(CorpusError, match=r"no column who; the columns key, label, who, when are expected"):
        corrected(root, store, cluster, "1_left,4,2026-01-31", header="key,label,when")
    with pytest.raises(CorpusError, match=r"corpus\.corrections nowhere\.csv: no such file"):
        run(spec(root, store, {"corrections": "nowhere.csv"}), cluster)


def test_a_private_corpus_names_nobody(root: Path, store: LocalStore, cluster: Cluster) -> None:
    found = corrected(root, store, cluster, "train/1_left.jpeg,4,Dr Quimby,2026-01-31", private=True, name="ours")
    rows = catalog(store, found)
    assert [row["reason"] for row in rows.values() if row["reason"]] == ["label corrected"]
    assert not any(b"Quimby" in store.get(name) for name in store.sizes(""))
    with pytest.raises(CorpusError, match=r"names an image that the corpus does not have; details"):
        corrected(root, store, cluster, "train/77_left.jpeg,4,Dr A,2026-01-31", private=True, name="ours")


def test_a_label_that_the_map_does_not_cover_can_be_corrected(
    tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    root = eyepacs(tmp_path / "e", {**many_patients(20), "91_left": 7, "92_left": 7})
    own = {"label_map": "referable", "task": None, "outside": "unlabelled"}
    rows = catalog(store, corrected(root, store, cluster, "91_left,referable,Dr A,2026-01-31", **own))
    assert (rows["91_left"]["label"], rows["92_left"]["label"], rows["92_left"]["status"]) == (1, -1, "ok")
