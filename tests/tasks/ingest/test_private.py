"""A private corpus: no file name, patient or metadata outside the folder that it came from."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from infra.compute.cluster import Cluster
from infra.errors import BudgetError
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.ingest.specs import run, spec

TABLE = {"csv": "labels.csv", "image": "name", "label": "label", "patient_pattern": r"([a-z]+\d+)_"}
CORPUS = {"adapter": "table", "name": "ours", "private": True, "table": TABLE}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    names = [f"doe{p}_{eye}" for p in range(10, 30) for eye in ("l", "r")]
    for seed, name in enumerate(names):
        path = image(root / f"{name}.png", seed)
        exif = Image.Exif()
        exif[0x010E] = "doe, jane"
        Image.open(path).save(root / f"{name}.jpg", exif=exif)
        path.unlink()
    csv(root / "labels.csv", "name,label", [f"{n},{'xy'[i // 2 % 2]}" for i, n in enumerate(names)] + ["doe99_l,x"])
    (root / "doe10_l.jpg").write_bytes(b"")
    return root


def test_nothing_in_the_store_names_a_file_or_patient(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    run(spec(corpus, store, CORPUS), cluster)
    for name in store.sizes(""):
        data = store.get(name)
        if name.endswith(".parquet"):
            data = str(from_parquet(data).to_pylist()).encode()
        assert b"doe" not in data.lower(), name
        assert "doe" not in name


def test_keys_and_patients_are_keyed_hashes(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, CORPUS), cluster).manifest
    rows = from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist()
    assert all(re.fullmatch("[0-9a-f]{16}", row["key"]) and row["source"] == "" for row in rows)
    assert len({row["patient"] for row in rows if row["status"] != "missing"}) == 20
    (fault,) = manifest.quarantine
    assert re.fullmatch("[0-9a-f]{16}", fault.source)


def test_patients_stay_together(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, CORPUS), cluster).manifest
    splits: dict[str, set[str]] = {}
    for row in from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist():
        if row["status"] == "ok":
            splits.setdefault(row["patient"], set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}


def test_the_splits_are_those_of_any_other_store(corpus: Path, tmp_path: Path, cluster: Cluster) -> None:
    def split_of_bytes(store: LocalStore) -> dict[str, str]:
        manifest = run(spec(corpus, store, CORPUS), cluster).manifest
        rows = from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist()
        return {row["source_sha256"]: row["split"] for row in rows}

    assert split_of_bytes(LocalStore(tmp_path / "a")) == split_of_bytes(LocalStore(tmp_path / "b"))


def test_a_second_run_finds_everything(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store, CORPUS), cluster)
    again = run(spec(corpus, store, CORPUS), cluster)
    assert (again.made, again.manifest.digest) == (0, first.manifest.digest)


def test_shards_hold_pixels_and_labels_alone(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, CORPUS), cluster).manifest
    with tarfile.open(fileobj=io.BytesIO(store.get(manifest.outputs[0].name))) as tar:
        for member in tar.getmembers():
            data = tar.extractfile(member).read()  # type: ignore[union-attr]
            assert re.fullmatch(r"[0-9a-f]{16}\.(jpg|json)", member.name)
            assert member.name.endswith(".jpg") or re.fullmatch(rb'\{"label":(-1|0|1)\}', data)


def test_the_budget_error_names_hashes(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(BudgetError) as caught:
        run(spec(corpus, store, CORPUS, ingest={"max_bad": 0, "max_bad_share": 0}), cluster)
    assert "doe" not in str(caught.value)
    assert re.search(r"[0-9a-f]{16}: not readable", str(caught.value))
