"""A corpus of DICOM files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet, table_of
from tests.tasks.corpora.layouts import csv
from tests.tasks.ingest.dicoms import PLANTED, dicom
from tests.tasks.ingest.specs import run, spec

TABLE = {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient"}
WORDS = [word for value in PLANTED.values() for word in value.split("^")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 radiographs of twenty patients with names in their headers, AP and PA by turns."""
    rows = []
    (tmp_path / "c").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 4096, (24, 30), dtype=np.uint16)
        data = dicom(
            pixels,
            bits=12,
            **PLANTED,
            Modality="DX",
            ViewPosition=("AP", "PA")[number % 2],
            PatientAge="093Y",
            PatientSex="M",
            Manufacturer="Agfa",
            StudyDate="20190703",
        )
        (tmp_path / f"c/n{number:02d}.dcm").write_bytes(data)
        rows.append(f"n{number:02d},{'xy'[number // 2 % 2]},p{number // 2}")
    csv(tmp_path / "c/labels.csv", "name,label,patient", rows)
    return tmp_path / "c"


def ingested(root: Path, store: LocalStore, cluster: Cluster, **rest: Any) -> Manifest:
    return run(spec(root, store, {"adapter": "table", "name": "ours", "table": TABLE, **rest}), cluster).manifest


def rows(store: LocalStore, manifest: Manifest) -> list[dict[str, Any]]:
    return list(table_of(store, manifest, "catalog").to_pylist())


def texts(store: LocalStore) -> bytes:
    """Everything in the store, tables and tars unpacked."""
    found = []
    for name in store.sizes(""):
        data = store.get(name)
        found += [name.encode(), data]
        if name.endswith(".parquet"):
            found.append(str(from_parquet(data).to_pylist()).encode())
        if name.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                found += [tar.extractfile(member).read() for member in tar]  # type: ignore[union-attr]
    return b"\n".join(found)


def test_facts_of_the_header_are_in_the_catalog_and_names_nowhere(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    found = rows(store, ingested(root, store, cluster))
    first = next(row for row in found if row["key"] == "n00")
    assert {name: first[name] for name in ("projection", "age", "sex", "camera", "date", "width")} == {
        "projection": "AP",
        "age": 93.0,
        "sex": "male",
        "camera": "Agfa",
        "date": "2019-07-03",
        "width": 30,
    }
    kept = texts(store)
    assert not [word for word in WORDS if word.encode() in kept]


def test_what_headers_told_stays_when_nothing_is_read_again(root: Path, store: LocalStore, cluster: Cluster) -> None:
    ingested(root, store, cluster)
    path = root / "labels.csv"
    path.write_text(path.read_text().replace("n00,x", "n00,y"))
    found = rows(store, ingested(root, store, cluster))
    assert {row["camera"] for row in found} == {"Agfa"}


def test_a_filter_reads_what_headers_told(root: Path, store: LocalStore, cluster: Cluster) -> None:
    found = rows(store, ingested(root, store, cluster, where={"projection": "AP"}))
    assert {(row["projection"], row["status"]) for row in found} == {("AP", "ok"), ("PA", "left out")}


def test_a_private_store_knows_neither_maker_nor_day_nor_high_age(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    found = rows(store, ingested(root, store, cluster, private=True))
    assert {(row["camera"], row["date"], row["age"]) for row in found} == {("", "2019", 90.0)}
    kept = texts(store)
    assert not [word for word in [*WORDS, "Agfa", "20190703", "2019-07-03"] if word.encode() in kept]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "the DICOM says that text is burned into its pixels"),
        ({"NumberOfFrames": 2, "Rows": 12}, "the DICOM has 2 frames"),
    ],
)
def test_what_may_not_be_stored_is_named(
    root: Path, store: LocalStore, cluster: Cluster, elements: dict[str, Any], reason: str
) -> None:
    (root / "n03.dcm").write_bytes(dicom(np.zeros((24, 30), np.uint16), **elements))
    (fault,) = ingested(root, store, cluster).quarantine
    assert (fault.source, fault.reason.startswith(f"not readable: {reason}")) == ("n03.dcm", True)


def test_folders_of_dicom_files_say_label_and_patient(root: Path, store: LocalStore, cluster: Cluster) -> None:
    for number in range(40):
        place = root / "xy"[number // 2 % 2] / f"p{number // 2}"
        place.mkdir(parents=True, exist_ok=True)
        (root / f"n{number:02d}.dcm").rename(place / f"n{number:02d}.dcm")
    (root / "labels.csv").unlink()
    asked = {"adapter": "folder", "name": "ours", "folder": {"layout": "{label}/{patient}"}}
    manifest = run(spec(root, store, asked), cluster).manifest
    found = rows(store, manifest)
    assert {(row["status"], row["projection"], row["age"]) for row in found} == {("ok", "AP", 93.0), ("ok", "PA", 93.0)}
    assert (manifest.facts["classes"], len({row["patient"] for row in found})) == (["x", "y"], 20)
    assert not [word for word in WORDS if word.encode() in texts(store)]
