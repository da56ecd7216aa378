"""Ingest as a whole: what is there is found, what is lost is made again, what is new is added."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.errors import CancelledError, CorpusError, CorruptError
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tasks.ingest.parent import read_head
from tasks.ingest.stage import ingest
from tasks.ingest.summary import preview
from tasks.pipeline.context import Context
from tests.tasks.corpora.layouts import csv, eyepacs, image
from tests.tasks.ingest.graded import catalog, grade, shards
from tests.tasks.ingest.specs import run, spec


def test_a_corpus_becomes_shards_index_and_catalog(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    result = run(spec(corpus, store), cluster)
    manifest = result.manifest
    assert [o.meta["kind"] for o in manifest.outputs][-2:] == ["index", "catalog"]
    assert result.made == result.total == len(manifest.outputs)
    assert sum(o.samples for o in manifest.outputs_where(kind="shard")) == 46
    rows = catalog(store, manifest)
    assert rows["3_left"]["label"] == 3
    assert (rows["3_left"]["width"], rows["3_left"]["height"], rows["3_left"]["eye"]) == (24, 20, "left")
    assert manifest.facts["unlabelled"] == 6
    assert sum(n for split in manifest.facts["counts"].values() for n in split.values()) == 40


def test_a_second_run_finds_everything_without_a_worker(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    again = run(spec(corpus, store), no_cluster)
    assert (again.made, again.cached, again.manifest.digest) == (0, True, first.manifest.digest)


def test_two_stores_get_the_same_digests(corpus: Path, tmp_path: Path, cluster: Cluster) -> None:
    moved = shutil.copytree(corpus, tmp_path / "moved")
    first = run(spec(corpus, LocalStore(tmp_path / "one")), cluster)
    second = run(spec(moved, LocalStore(tmp_path / "two")), cluster)
    assert first.manifest.digest == second.manifest.digest


def test_a_lost_shard_alone_is_made_again(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    lost = shards(first.manifest)[1]
    before = {path: path.stat().st_mtime_ns for path in (store.root / "shards").rglob("*.tar")}
    data = store.get(lost)
    store.delete(lost)
    again = run(spec(corpus, store), cluster)
    assert (again.made, again.manifest.digest) == (1, first.manifest.digest)
    assert store.get(lost) == data
    touched = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert touched == [store.local_path(lost)]


def test_a_damaged_shard_is_found_by_verify(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    name = shards(first.manifest)[0]
    data = store.get(name)
    store.put(name, data[:600] + bytes([data[600] ^ 1]) + data[601:])
    assert run(spec(corpus, store), cluster).made == 0
    assert run(spec(corpus, store, run={"verify": True}), cluster).made == 1
    assert store.get(name) == data


def test_a_lost_catalog_is_made_again(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    for kind in ("catalog", "index"):
        store.delete(first.manifest.output(kind=kind).name)
    again = run(spec(corpus, store), cluster)
    assert (again.made, again.manifest.digest) == (2, first.manifest.digest)


def test_a_lost_shard_whose_files_are_gone_is_reported(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    key = from_parquet(store.get(first.manifest.output(kind="index").name))["key"][0].as_py()
    (corpus / f"train/{key}.jpeg").unlink()
    store.delete(shards(first.manifest)[0])
    with pytest.raises(CorruptError, match=f"the source file of {key} is no longer in the corpus"):
        run(spec(corpus, store), cluster)


def test_a_run_that_was_cut_short_makes_only_what_is_missing(
    corpus: Path, tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    whole = run(spec(corpus, LocalStore(tmp_path / "whole")), cluster)
    done: list[int] = []
    context = Context(store, cluster, progress=lambda made, total: done.append(made), stop=lambda: len(done) > 3)
    with pytest.raises(CancelledError):
        ingest(context, spec(corpus, store))
    recorded = len(store.sizes("units/ingest/"))
    assert read_head(store, "eyepacs") is None
    again = run(spec(corpus, store), cluster)
    assert again.manifest.digest == whole.manifest.digest
    assert again.made <= again.total - recorded


def test_a_run_cut_between_manifest_and_head_is_found(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    store.delete("heads/eyepacs")
    assert run(spec(corpus, store), no_cluster).made == 0
    head = read_head(store, "eyepacs")
    assert head is not None
    assert head.digest == first.manifest.digest


def test_new_images_make_new_shards_only(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    for patient in range(50, 55):
        image(corpus / f"train/{patient}_left.jpeg", patient)
    grade(corpus, p50_left=1, p51_left=2)
    again = run(spec(corpus, store), cluster)
    old = shards(first.manifest)
    assert shards(again.manifest)[: len(old)] == old
    assert again.manifest.inputs[1] == first.manifest.digest
    assert again.made == len(shards(again.manifest)) - len(old) + 2
    before, after = catalog(store, first.manifest), catalog(store, again.manifest)
    assert all(after[key]["split"] == row["split"] for key, row in before.items())
    assert len(after) == 51


def test_a_corrected_label_changes_the_catalog_alone(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    grade(corpus, **{"p3_left": 2})
    again = run(spec(corpus, store), no_cluster)
    assert shards(again.manifest) == shards(first.manifest)
    assert again.manifest.output(kind="index") == first.manifest.output(kind="index")
    assert (again.made, catalog(store, again.manifest)["3_left"]["label"]) == (1, 2)


def test_a_removed_file_is_reported_and_stays(
    corpus: Path, store: LocalStore, no_cluster: Cluster, cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    (corpus / "train/30_left.jpeg").unlink()
    again = run(spec(corpus, store), no_cluster)
    assert shards(again.manifest) == shards(first.manifest)
    assert again.manifest.facts["removed"] == 1
    assert catalog(store, again.manifest)["30_left"]["status"] == "ok"
    assert run(spec(corpus, store), no_cluster).manifest.digest == again.manifest.digest


def test_a_changed_file_is_reported_and_its_shard_stays(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    image(corpus / "train/30_left.jpeg", seed=777)
    again = run(spec(corpus, store), no_cluster)
    assert (shards(again.manifest), again.manifest.facts["changed"]) == (shards(first.manifest), 1)


def test_a_label_that_is_withdrawn_leaves_the_image_unlabelled(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    run(spec(corpus, store), cluster)
    grade(corpus, **{"p3_left": 9})
    again = run(spec(corpus, store), no_cluster)
    row = catalog(store, again.manifest)["3_left"]
    assert (row["status"], row["label"]) == ("ok", -1)
    assert row["reason"].startswith("label withdrawn: trainLabels.csv line ")


def test_other_sizes_lie_in_another_folder(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    other = run(spec(corpus, store, ingest={"size": 18}), cluster)
    assert not {n.rpartition("/")[0] for n in shards(first.manifest)} & {
        n.rpartition("/")[0] for n in shards(other.manifest)
    }
    assert run(spec(corpus, store), cluster).manifest.digest == first.manifest.digest


def test_a_partial_download_is_counted(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    with (corpus / "trainLabels.csv").open("a") as table:
        table.writelines(f"{n}_left,{n % 5}\n" for n in range(1000, 29000))
    manifest = run(spec(corpus, store), cluster).manifest
    assert (manifest.facts["missing"], manifest.quarantine) == (28000, [])


def test_odd_names_get_in(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    names = ["a b.png", "a.b.png", "Zoë.png", "a-b.png", "x/v.png", "y/v.png"]
    for seed, name in enumerate(names):
        image(tmp_path / "c" / name, seed)
    csv(
        tmp_path / "c/labels.csv",
        "name,label,split",
        [f"{n},x,{s}" for n, s in zip(names, ("train", "val", "test") * 2, strict=True)],
    )
    table = {"csv": "labels.csv", "image": "name", "label": "label", "split": "split"}
    manifest = run(spec(tmp_path / "c", store, {"adapter": "table", "table": table}), cluster).manifest
    rows = catalog(store, manifest)
    assert len(rows) == 6
    assert sorted(r["source"] for r in rows.values()) == sorted(names)
    assert all(key.isascii() and "." not in key for key in rows)


def test_an_empty_split_ends_the_run_before_any_work(tmp_path: Path, store: LocalStore, no_cluster: Cluster) -> None:
    eyepacs(tmp_path / "c", {"1_left": 0, "1_right": 0})
    with pytest.raises(CorpusError, match=r"no labelled image in the val split"):
        run(spec(tmp_path / "c", store, {"classes": ["a"]}), no_cluster)


def test_a_preview_says_what_the_run_will_do_and_writes_nothing(
    corpus: Path, store: LocalStore, cluster: Cluster
) -> None:
    before = preview(spec(corpus, store), store)
    assert store.sizes("") == {}
    assert (before.images, before.unknown, before.cached) == (46, 46, False)
    manifest = run(spec(corpus, store), cluster).manifest
    after = preview(spec(corpus, store), store)
    assert before.facts["counts"] == manifest.facts["counts"] == after.facts["counts"]
    assert before.shards == len(shards(manifest))
    assert (after.images, after.unknown, after.cached) == (0, 0, True)
