"""Attributes in the catalog, and what a private corpus keeps of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.catalog import CATALOG, table_of, with_attributes
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.corpora.public_layouts import messidor2
from tests.tasks.ingest.specs import run, spec

COLUMNS = {"exam": "exam", "site": "site", "camera": "camera", "date": "date", "sex": "sex", "age": "age"}


def corpus(root: Path, ages: str = "61,94") -> Path:
    """40 images of twenty patients in two sites."""
    rows = []
    for number in range(40):
        image(root / f"n{number:02d}.png", number)
        site = ("Northgate", "Southgate")[number % 2]
        years = ages.split(",")[number % 2]
        rows.append(f"n{number:02d},{'xy'[number // 2 % 2]},p{number // 2},v{number},{site},Topcon,20190703,F,{years}")
    csv(root / "labels.csv", "name,label,patient,exam,site,camera,date,sex,age", rows)
    return root


def ingested(root: Path, store: LocalStore, cluster: Cluster, **rest: object) -> list[dict[str, Any]]:
    table = {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient", "attributes": COLUMNS}
    given = spec(root, store, {"adapter": "table", "name": "ours", "table": table, **rest})
    rows: list[dict[str, Any]] = table_of(store, run(given, cluster).manifest, "catalog").to_pylist()
    return rows


def test_the_catalog_has_them(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    rows = {row["key"]: row for row in ingested(corpus(tmp_path / "c"), store, cluster)}
    found = {name: rows["n01"][name] for name in COLUMNS}
    assert found == {
        "exam": "v1",
        "site": "Southgate",
        "camera": "Topcon",
        "date": "2019-07-03",
        "sex": "female",
        "age": 94.0,
    }


def test_a_corrected_attribute_changes_the_catalog_and_no_shard(
    tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    ingested(corpus(tmp_path / "c"), store, cluster)
    shards = set(store.sizes("shards"))
    rows = ingested(corpus(tmp_path / "c", ages="62,94"), store, cluster)
    assert {row["age"] for row in rows} == {62.0, 94.0}
    assert set(store.sizes("shards")) == shards


def test_a_private_catalog_has_no_name_no_day_and_no_high_age(
    tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    rows = ingested(corpus(tmp_path / "c"), store, cluster, private=True)
    for name in ("exam", "site", "camera"):
        assert all(re.fullmatch("[0-9a-f]{16}", row[name]) for row in rows)
    assert len({row["site"] for row in rows}) == 2
    assert {(row["date"], row["age"], row["sex"]) for row in rows} == {
        ("2019", 61.0, "female"),
        ("2019", 90.0, "female"),
    }


def test_images_that_cannot_be_graded_are_marked(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    given = spec(
        messidor2(tmp_path / "c"),
        store,
        {"adapter": "messidor-2", "label_map": "referable", "split": {"val": 0.0, "test": 0.0}},
    )
    rows = table_of(store, run(given, cluster).manifest, "catalog").to_pylist()
    assert {row["source"]: row["gradable"] for row in rows} == {
        "IMAGES/20051020_43808_0100_PP.png": True,
        "IMAGES/20051020_43832_0100_PP.png": True,
        "IMAGES/IM000004.JPG": True,
        "IMAGES/IM000005.JPG": False,
    }


def test_a_catalog_of_before_knows_none() -> None:
    old = pa.Table.from_pylist([{"key": "a"}], schema=CATALOG).drop_columns(["sex", "age", "projection", "gradable"])
    table = with_attributes(old)
    assert table.schema == CATALOG
    assert (table["sex"][0].as_py(), table["gradable"][0].as_py()) == ("", None)


def test_attributes_of_files_that_are_gone_stay(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = corpus(tmp_path / "c")
    before = {row["key"]: row for row in ingested(root, store, cluster)}
    (root / "n01.png").unlink()
    after = {row["key"]: row for row in ingested(root, store, cluster)}
    assert {name: after["n01"][name] for name in COLUMNS} == {name: before["n01"][name] for name in COLUMNS}
