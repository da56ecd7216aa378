"""Ingest as a whole: what is there is found, what is lost is made again, what is new is added."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import Cluster
from infra.cluster_spec import ClusterSection
from infra.errors import BudgetError, CancelledError, CorpusError, CorruptError
from infra.manifest import Manifest
from infra.store import LocalStore
from tasks.catalog import from_parquet
from tasks.ingest.parent import read_head
from tasks.ingest.preview import preview
from tasks.ingest.stage import ingest
from tests.tasks.corpora.layouts import csv, eyepacs, image, many_patients
from tests.tasks.ingest.specs import run, spec

GRADES = many_patients(20)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """40 graded images of 20 patients, 6 more in the pool."""
    return eyepacs(tmp_path / "corpus", GRADES, pool=[f"{p}_left" for p in range(30, 36)])


@pytest.fixture
def no_cluster() -> Cluster:
    """A cluster that fails when anybody asks for a worker."""
    return Cluster(ClusterSection(kind="address", address="nowhere://0"))


def catalog(store: LocalStore, manifest: Manifest) -> dict[str, dict[str, Any]]:
    rows = from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist()
    assert [r["key"] for r in rows] == sorted(r["key"] for r in rows)
    return {row["key"]: row for row in rows}


def shards(manifest: Manifest) -> list[str]:
    return [o.name for o in manifest.outputs_where(kind="shard")]


def grade(corpus: Path, **changed: int) -> None:
    rows = {**GRADES, **{key.removeprefix("p"): value for key, value in changed.items()}}
    csv(corpus / "trainLabels.csv", "image,level", [f"{name},{level}" for name, level in rows.items()])


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


def test_a_lost_shard_whose_files_are_gone_is_told(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
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
    with pytest.raises(CancelledError):
        ingest(
            spec(corpus, store),
            store,
            cluster,
            progress=lambda made, total: done.append(made),
            stop=lambda: len(done) > 3,
        )
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


def test_a_removed_file_is_told_and_stays(
    corpus: Path, store: LocalStore, no_cluster: Cluster, cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    (corpus / "train/30_left.jpeg").unlink()
    again = run(spec(corpus, store), no_cluster)
    assert shards(again.manifest) == shards(first.manifest)
    assert again.manifest.facts["removed"] == 1
    assert catalog(store, again.manifest)["30_left"]["status"] == "ok"
    assert run(spec(corpus, store), no_cluster).manifest.digest == again.manifest.digest


def test_a_changed_file_is_told_and_its_shard_stays(
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


def spoil(corpus: Path) -> dict[str, str]:
    """Three files at fault; key to reason."""
    whole = (corpus / "train/32_left.jpeg").read_bytes()
    (corpus / "train/30_left.jpeg").write_bytes(b"")
    (corpus / "train/31_left.jpeg").write_bytes(b"<html>not found</html>")
    (corpus / "train/32_left.jpeg").write_bytes(whole[:-40])
    return {
        "train/30_left.jpeg": "not readable: the file is empty (zero bytes)",
        "train/31_left.jpeg": "not readable: the content is an HTML page, perhaps the error page of a failed download",
        "train/32_left.jpeg": "not readable: cut-off JPEG: no end-of-image marker",
    }


def test_files_at_fault_are_quarantined_with_reasons(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    reasons = spoil(corpus)
    manifest = run(spec(corpus, store), cluster).manifest
    assert {q.source: q.reason for q in manifest.quarantine} == reasons
    row = catalog(store, manifest)["30_left"]
    assert (row["status"], row["split"], manifest.facts["quarantined"]) == ("quarantined", "", 3)


def test_quarantined_files_are_asked_again_only_on_request(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    spoil(corpus)
    first = run(spec(corpus, store), cluster)
    grade(corpus, **{"p3_left": 2})
    again = run(spec(corpus, store), no_cluster)
    assert len(again.manifest.quarantine) == 3
    asked = run(spec(corpus, store, run={"retry_quarantined": True}), cluster)
    assert (asked.made, asked.manifest.digest) == (0, again.manifest.digest)
    assert shards(asked.manifest) == shards(first.manifest)


def test_a_file_that_was_put_right_comes_in(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    spoil(corpus)
    first = run(spec(corpus, store), cluster)
    image(corpus / "train/31_left.jpeg", 31)
    again = run(spec(corpus, store), cluster)
    assert len(again.manifest.quarantine) == 2
    assert len(shards(again.manifest)) == len(shards(first.manifest)) + 1


def test_the_failure_budget_ends_the_run(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    spoil(corpus)
    with pytest.raises(BudgetError, match=r"of 46 images are at fault, more than ingest\.max_bad 1 .*30_left: not"):
        run(spec(corpus, store, ingest={"max_bad": 1, "max_bad_share": 0.01}), cluster)
    assert store.sizes("manifests/") == {}
    assert not cluster.client.futures


def test_the_budget_does_not_enter_the_key(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    assert run(spec(corpus, store, ingest={"max_bad": 3}), cluster).manifest.digest == first.manifest.digest


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


def test_an_unreadable_file_is_quarantined(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    (corpus / "train/30_left.jpeg").unlink()
    os.symlink("nowhere", corpus / "train/30_left.jpeg")
    (fault,) = run(spec(corpus, store), cluster).manifest.quarantine
    assert fault.source == "train/30_left.jpeg"
    assert fault.reason == "not readable: a link that leads nowhere (No such file or directory)"


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
