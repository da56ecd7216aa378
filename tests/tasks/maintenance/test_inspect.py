"""Inspect: a store, a corpus, a shard, an image and a soft-label file say what is in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorruptError, UsageError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.draws import NO_PARTNER
from tasks.data.catalog import from_parquet
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import read_soft_labels, to_soft_labels, write_soft_labels
from tasks.drawing.contact_sheet import TILE
from tasks.maintenance.formatting import format_bytes, inspect_lines
from tasks.maintenance.inspect import inspect, sheet_of, write_parquet
from tasks.maintenance.name_lookup import NameLookup
from tasks.maintenance.store_summary import histogram
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.ingest.specs import run, spec
from tests.tasks.maintenance.conftest import IngestedStore
from tests.tiny import tiny_labels


def index_of(kept: IngestedStore) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = from_parquet(kept.store.get(kept.manifest.output(kind="index").name)).to_pylist()
    return rows


def text(found: dict[str, Any]) -> str:
    """For people; and as JSON, which must be possible."""
    json.dumps(found, allow_nan=False)
    return "\n".join(inspect_lines(found))


def labels(kept: IngestedStore) -> Manifest:
    """Soft labels of one teacher, sure of class `row mod 5`, which shows no row of val as valid."""

    def logits(shard: Any, view: int) -> np.ndarray:
        sure = np.full((len(shard), 5), -4.0, np.float32)
        sure[np.arange(len(shard)), np.arange(len(shard)) % 5] = 4.0 + view
        if shard.split == "val":
            sure[:] = np.nan
        return sure

    return tiny_labels(Corpus(kept.store, kept.manifest), "big", logits, views=1)


def test_a_store_is_counted(original: IngestedStore) -> None:
    found = inspect(original.store)
    (corpus,) = found["corpora"]
    facts = original.manifest.facts
    assert corpus["counts"] == facts["counts"]
    assert sum(corpus["images"].values()) == 45
    assert corpus["quarantine"] == {original.manifest.quarantine[0].reason: 1}
    assert corpus["shards"] == len(original.shards)
    assert sum(corpus["width"]["counts"]) == 45
    assert (corpus["width"]["least"], corpus["width"]["largest"]) == (24, 24)
    assert sum(corpus["image_bytes"]["counts"]) == 45
    assert found["bytes"] == sum(original.store.sizes("").values())
    assert [(s["stage"], s["outputs"]) for s in found["stages"]] == [("ingest", len(original.manifest.outputs))]
    shown = text(found)
    assert "corpus eyepacs: fundus, ordinal" in shown
    assert "     1  not readable: the file is empty" in shown
    assert "24 to 24 " + "#" * 32 + " 45" in shown


def test_a_corpus_by_its_title_is_the_same_alone(original: IngestedStore) -> None:
    found = inspect(original.store, "eyepacs")
    assert found["kind"] == "corpus"
    assert found["corpora"] == inspect(original.store)["corpora"]
    assert text(found).startswith("corpus eyepacs")


def test_a_shard_lists_its_samples(kept: IngestedStore) -> None:
    name = kept.shards[0]
    rows = [row for row in index_of(kept) if row["shard"] == 0]
    kept.flip(name, rows[2]["offset"])
    found = inspect(kept.store, name.rpartition("/")[2])
    assert found["name"] == name
    assert [s["key"] for s in found["samples"]] == [row["key"] for row in rows]
    assert [s["whole"] for s in found["samples"]] == [n != 2 for n in range(len(rows))]
    assert all(s["patient"] and s["class"] in kept.manifest.facts["classes"] + [""] for s in found["samples"])
    assert f"{len(rows)} samples, 1 damaged" in text(found)


def test_labels_are_those_of_the_catalog(kept: IngestedStore, cluster: Cluster) -> None:
    lines = (kept.corpus / "trainLabels.csv").read_text().replace("1_left,1", "1_left,4")
    (kept.corpus / "trainLabels.csv").write_text(lines)
    manifest = run(spec(kept.corpus, kept.store), cluster).manifest
    assert inspect(kept.store, "1_left")["class"] == manifest.facts["classes"][4]
    shard = inspect(kept.store, inspect(kept.store, "1_left")["shard"]["name"])
    (sample,) = (s for s in shard["samples"] if s["key"] == "1_left")
    assert sample["class"] == manifest.facts["classes"][4]


def test_a_key_shows_row_place_and_teaching(kept: IngestedStore) -> None:
    labels(kept)
    place = next(row for row in index_of(kept) if row["key"] == "3_left")
    found = inspect(kept.store, "3_left")
    assert found["class"] == kept.manifest.facts["classes"][3]
    assert found["catalog"]["source"] == "train/3_left.jpeg"
    shard = found["shard"]
    assert (shard["name"], shard["row"]) == (kept.shards[place["shard"]], place["row"])
    assert (shard["offset"], shard["bytes"], shard["whole"]) == (place["offset"], place["size"], True)
    assert {(s["teacher"], s["view"]) for s in found["soft_labels"]} >= {("big", 0)}
    for soft in found["soft_labels"]:
        if soft["valid"]:
            assert soft["top"][0][0] == kept.manifest.facts["classes"][place["row"] % 5]
            assert soft["top"][0][1] > 0.99
    assert "teacher big, view 0: " in text(found)


def test_a_quarantined_key_says_why(original: IngestedStore) -> None:
    found = inspect(original.store, "30_left")
    assert found["shard"] is None
    assert "not readable: the file is empty" in found["catalog"]["reason"]
    assert "in no shard" in text(found)


def test_a_soft_label_file_is_described(kept: IngestedStore) -> None:
    manifest = labels(kept)
    output = next(o for o in manifest.outputs if o.meta["split"] == "train" and o.meta["view"] == 1)
    found = inspect(kept.store, output.name)
    rows = output.samples
    assert (found["teacher"], found["view"], found["shape"], found["invalid"]) == ("big", 1, [rows, 5], 0)
    assert list(found["classes"].values()) == [len(range(n, rows, 5)) for n in range(5)]
    assert found["mean_confidence"] > 0.99
    assert found["rows"][1] == {
        "key": index_of(kept)[8 * output.meta["shard"] + 1]["key"],
        "valid": True,
        "logits": [-4.0, 5.0, -4.0, -4.0, -4.0],
        "partner": None,
    }
    assert (found["mixed"], found["features"]) == (None, None)
    assert "mean confidence 1.000" in text(found)
    assert "partner" not in text(found)
    assert "features" not in text(found)


def mixed(kept: IngestedStore) -> tuple[Manifest, Output]:
    """The labels with the first two rows of one file mixed with each other, and four features an image."""
    manifest = labels(kept)
    output = next(o for o in manifest.outputs if o.meta["split"] == "train" and o.meta["view"] == 1)
    soft = read_soft_labels(kept.store.get(output.name))
    rows = len(soft.valid)
    partner = np.array([1, 0, *[NO_PARTNER] * (rows - 2)], np.int32)
    features = np.arange(4 * rows, dtype=np.float32).reshape(rows, 2, 2, 1)
    data = write_soft_labels(
        to_soft_labels(soft.logits, predicted=np.arange(rows) != 2, partner=partner, features=features)
    )
    other = StageCache(kept.store).put_object(
        "labels/eyepacs/mixed-{sha8}.safetensors", data, id=output.id, samples=rows, meta=output.meta
    )
    outputs = [other if o == output else o for o in manifest.outputs]
    return StageCache(kept.store).commit(manifest.model_copy(update={"outputs": outputs})), other


def test_partners_and_features_of_a_soft_label_file_are_shown(kept: IngestedStore) -> None:
    _, output = mixed(kept)
    keys = [row["key"] for row in index_of(kept) if row["shard"] == output.meta["shard"]]
    found = inspect(kept.store, output.name)
    assert (found["mixed"], found["features"]) == (2, [len(keys), 2, 2, 1])
    assert [row["partner"] for row in found["rows"][:3]] == [keys[1], keys[0], None]
    shown = text(found)
    assert f"2 of {len(keys)} rows mixed with a partner of the shard" in shown
    assert f"features {len(keys)} x 2 x 2 x 1" in shown
    assert re.search(rf"{keys[0]} +{keys[1]} +4\.", shown) or re.search(rf"{keys[0]} +{keys[1]} +[0-9]", shown)


def test_a_key_shows_whom_its_view_is_mixed_with(kept: IngestedStore) -> None:
    _, output = mixed(kept)
    keys = [row["key"] for row in index_of(kept) if row["shard"] == output.meta["shard"]]
    by_view = {soft["view"]: soft for soft in inspect(kept.store, keys[0])["soft_labels"]}
    assert (by_view[0]["partner"], by_view[0]["features"]) == (None, None)
    assert (by_view[1]["partner"], by_view[1]["features"]) == (keys[1], [2, 2, 1])
    shown = text(inspect(kept.store, keys[0]))
    assert f"teacher big, view 1, mixed with {keys[1]}: " in shown
    assert "; features 2 x 2 x 1" in shown


def test_partners_and_features_go_to_parquet(kept: IngestedStore, tmp_path: Path) -> None:
    _, output = mixed(kept)
    keys = [row["key"] for row in index_of(kept) if row["shard"] == output.meta["shard"]]
    write_parquet(kept.store, output.name, tmp_path / "soft.parquet")
    rows = pq.read_table(tmp_path / "soft.parquet").to_pylist()
    assert [row["partner"] for row in rows] == [keys[1], keys[0], *[None] * (len(keys) - 2)]
    assert [row["features"] for row in rows[:3]] == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], None]


def test_a_soft_label_file_without_a_valid_row_has_no_confidence(kept: IngestedStore) -> None:
    output = next(o for o in labels(kept).outputs if o.meta["split"] == "val")
    found = inspect(kept.store, output.name)
    assert (found["invalid"], found["mean_confidence"]) == (output.samples, None)
    assert "confidence" not in text(found)


def test_soft_labels_go_to_parquet_by_key(kept: IngestedStore, tmp_path: Path) -> None:
    manifest = labels(kept)
    for split, valid in (("train", True), ("val", False)):
        output = next(o for o in manifest.outputs if o.meta["split"] == split)
        write_parquet(kept.store, output.name, tmp_path / "soft.parquet")
        rows = pq.read_table(tmp_path / "soft.parquet").to_pylist()
        assert [row["key"] for row in rows] == [
            row["key"] for row in index_of(kept) if row["shard"] == output.meta["shard"]
        ]
        assert {(row["teacher"], row["view"]) for row in rows} == {("big", 0)}
        assert [row["logits"] is not None for row in rows] == [valid] * len(rows)
        assert {(row["partner"], row["features"]) for row in rows} == {(None, None)}


def test_only_a_soft_label_file_goes_to_parquet(kept: IngestedStore, tmp_path: Path) -> None:
    for what in (None, kept.shards[0]):
        with pytest.raises(UsageError, match="one soft-label file"):
            write_parquet(kept.store, what, tmp_path / "soft.parquet")


def test_any_other_object_is_described(original: IngestedStore) -> None:
    index = original.manifest.output(kind="index")
    found = inspect(original.store, index.name)
    assert (found["kind"], found["holds"], found["bytes"]) == ("object", "index", index.bytes)
    assert index.sha256 in text(found)


def test_a_name_that_fits_nothing_or_several_is_refused(original: IngestedStore) -> None:
    with pytest.raises(UsageError, match=r"neither a corpus \(eyepacs\) nor a key of one, and no object"):
        inspect(original.store, "nobody")
    with pytest.raises(UsageError, match=rf"and {len(original.shards)} objects have it in their name: shards/"):
        inspect(original.store, ".tar")


def test_a_damaged_table_is_named(kept: IngestedStore) -> None:
    name = kept.manifest.output(kind="catalog").name
    kept.flip(name, 100)
    for what in (None, kept.shards[0], "3_left"):
        with pytest.raises(CorruptError, match=name):
            inspect(kept.store, what)


def test_an_empty_store_is_told(store: LocalStore) -> None:
    assert "no corpus was ingested here" in text(inspect(store))


def test_a_contact_sheet_has_a_row_a_class(original: IngestedStore) -> None:
    lookup = NameLookup(original.store)
    data = sheet_of(lookup)
    assert data == sheet_of(lookup, "eyepacs")
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    classes = len(original.manifest.facts["classes"])
    # Five grades and the unlabelled pool; six pictures a row.
    assert sheet.shape[0] % (classes + 1) == 0
    assert sheet.shape[1] // TILE == 6
    few = cv2.imdecode(np.frombuffer(sheet_of(lookup, each=2), np.uint8), cv2.IMREAD_COLOR)
    height = sheet.shape[0] // (classes + 1)
    assert np.array_equal(few[: height - 40, : 2 * TILE], sheet[: height - 40, : 2 * TILE])


def test_a_contact_sheet_of_a_shard_shows_its_own_pictures(kept: IngestedStore) -> None:
    lookup = NameLookup(kept.store)
    whole = sheet_of(lookup, kept.shards[0])
    assert whole != sheet_of(lookup)
    for row in (row for row in index_of(kept) if row["shard"] == 0):
        kept.flip(kept.shards[0], row["offset"])
    damaged = cv2.imdecode(np.frombuffer(sheet_of(lookup, kept.shards[0]), np.uint8), cv2.IMREAD_COLOR)
    # Nothing but grey tiles and black letters is left.
    assert (damaged.max(axis=2) == damaged.min(axis=2)).all()


def test_a_contact_sheet_needs_one_corpus(kept: IngestedStore, cluster: Cluster) -> None:
    run(spec(kept.corpus, kept.store, {"name": "second"}), cluster)
    lookup = NameLookup(kept.store)
    with pytest.raises(UsageError, match="the corpora eyepacs, second: name one of them"):
        sheet_of(lookup)
    assert sheet_of(lookup, "second")
    with pytest.raises(UsageError, match="a contact sheet is of a corpus or a shard"):
        sheet_of(lookup, kept.manifest.output(kind="index").name)


def test_a_private_corpus_shows_hashes_only(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    names = [f"doe{p}_{eye}" for p in range(10, 30) for eye in ("l", "r")]
    for seed, name in enumerate(names):
        image(tmp_path / "c" / f"{name}.jpg", seed)
    csv(tmp_path / "c/labels.csv", "name,label", [f"{n},{'xy'[i // 2 % 2]}" for i, n in enumerate(names)])
    table = {"csv": "labels.csv", "image": "name", "label": "label", "patient_pattern": r"([a-z]+\d+)_"}
    corpus = {"adapter": "table", "name": "ours", "private": True, "table": table}
    manifest = run(spec(tmp_path / "c", store, corpus), cluster).manifest
    shard = inspect(store, manifest.outputs[0].name)
    key = shard["samples"][0]["key"]
    for found in (inspect(store), shard, inspect(store, key)):
        # The folder of the test is named after it, not after a patient.
        assert "doe" not in (text(found) + json.dumps(found)).replace(store.url, "")
    assert sheet_of(NameLookup(store), "ours")


@pytest.mark.parametrize("values", [[], [5], [0, 1, 2], [1, 1000], list(range(100)), [7] * 10])
def test_histograms_count_every_value_once(values: list[int]) -> None:
    found = histogram(np.array(values, dtype=np.int64))
    assert sum(found["counts"]) == len(values)
    for low, high, count in zip(found["edges"], found["edges"][1:], found["counts"], strict=False):
        assert count == sum(low <= value < high for value in values)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (2_345_000_000, "2.35 GB")]
)
def test_sizes_are_readable(count: int, words: str) -> None:
    assert format_bytes(count) == words
