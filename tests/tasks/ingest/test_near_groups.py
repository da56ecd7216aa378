"""Near duplicates without a known patient stay in one split of our making; what is stored stays where it is."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.errors import BudgetError, CancelledError, CorpusError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet, table_of
from tasks.ingest.corpus_listing import list_corpus
from tasks.ingest.parent import Parent
from tasks.ingest.stage import IngestWork, ingest, ingest_key
from tasks.ingest.summary import preview
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.tasks.ingest.graded import catalog, shards
from tests.tasks.ingest.specs import run, spec
from tests.tasks.ingest.videos import encoded_again, frame, labels, name, scene_of, videos

FOLDER: dict[str, Any] = {"adapter": "folder", "modality": "endoscopy", "folder": {"layout": "{label}"}}


def own(root: Path, store: LocalStore, **split: Any) -> Spec:
    """A spec of folders of frames, half of them held out; 64 pixels are enough for the hash."""
    corpus = {**FOLDER, "split": {"val": 0.25, "test": 0.25, **split}}
    return spec(root, store, corpus, ingest={"size": 64, "crop": "none"})


def splits_of(store: LocalStore, manifest: Manifest) -> dict[str, set[str]]:
    """Scene to the splits that its frames are in."""
    found = defaultdict(set)
    for row in catalog(store, manifest).values():
        found[scene_of(row["source"] or row["key"])].add(row["split"])
    return found


def earlier_release(given: Spec, store: LocalStore, cluster: Cluster) -> Manifest:
    """The corpus as releases ingested it that kept no near duplicates together, and counted them within 40 bits."""
    work = IngestWork(Context(store, cluster), given.corpus, given.ingest)
    listed = list_corpus(work.scanned, store, Parent())
    key = ingest_key(listed, Parent(), None)
    made = work._make(listed, Parent(), key, retry=False, limit=None, counted=40)
    manifest = work.cache.commit(made.manifest)
    assert not {"near_duplicates", "near_limit"} & manifest.facts.keys()
    work.finish(manifest)
    return manifest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """24 scenes of 3 frames in 2 classes."""
    return videos(tmp_path / "corpus")


def test_near_frames_are_in_one_split(root: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(own(root, store), cluster).manifest
    found = splits_of(store, manifest)
    assert len(found) == 24
    assert all(len(splits) == 1 for splits in found.values())
    assert manifest.facts["images"] == {"train": 36, "val": 18, "test": 18}
    assert manifest.facts["leaks_by"]["near"] == 0
    assert manifest.facts["near_duplicates"] == {
        "limit": 56,
        "images": 72,
        "clusters": 24,
        "joined": 72,
        "largest": 3,
    }
    assert manifest.facts["notes"][-1] == (
        "72 of 72 images without a patient are near duplicates of others; their 24 clusters, the largest of 3, are in "
        "one split each"
    )


def test_they_are_split_as_they_come_where_the_spec_says_so(root: Path, store: LocalStore, cluster: Cluster) -> None:
    together = run(own(root, store), cluster).manifest
    ignored = run(own(root, store, near_duplicates="ignore"), cluster).manifest
    assert any(len(splits) > 1 for splits in splits_of(store, ignored).values())
    assert ignored.facts["leaks_by"]["near"] > 0
    assert "near_duplicates" not in ignored.facts
    assert ignored.section["corpus"]["split"]["near_duplicates"] == "ignore"
    assert "near_duplicates" not in together.section["corpus"]["split"]
    # Other shards, in a folder of their own, and the first ones are found again.
    assert not set(shards(together)) & set(shards(ignored))
    assert run(own(root, store), cluster).manifest.digest == together.digest


def test_a_store_of_an_earlier_release_stays_as_it_is(
    root: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    before = earlier_release(own(root, store), store, cluster)
    assert any(len(splits) > 1 for splits in splits_of(store, before).values())
    again = run(own(root, store), no_cluster)
    assert (again.made, again.manifest.digest) == (0, before.digest)
    store.delete("listings/folder.json")
    assert run(own(root, store), no_cluster).manifest.digest == before.digest
    store.delete("heads/folder")
    assert run(own(root, store), no_cluster).manifest.digest == before.digest


def test_tables_of_an_earlier_release_are_made_again_as_they_were(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    before = earlier_release(own(root, store), store, cluster)
    store.delete(before.output(kind="catalog").name)
    again = run(own(root, store), cluster)
    assert (again.made, again.manifest.digest) == (1, before.digest)


def test_lost_tables_are_made_again_with_their_groups(root: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(own(root, store), cluster).manifest
    store.delete(first.output(kind="catalog").name)
    store.delete("listings/folder.hashes.parquet")
    again = run(own(root, store), cluster)
    assert (again.made, again.manifest.digest) == (1, first.digest)


def test_asking_for_it_splits_a_corpus_of_an_earlier_release_anew(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    earlier_release(own(root, store), store, cluster)
    manifest = run(own(root, store, near_duplicates="together"), cluster).manifest
    assert manifest.inputs[1] == ""
    assert all(len(splits) == 1 for splits in splits_of(store, manifest).values())


def test_new_frames_follow_what_is_stored_and_the_held_out_first(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    before = earlier_release(own(root, store), store, cluster)
    places = splits_of(store, before)
    # The one in the middle is near both others.
    for middle in sorted(root.glob("*/*-1.jpg")):
        encoded_again(middle, middle.with_name(middle.name.replace("-1.jpg", "-9.jpg")))
    after = run(own(root, store), cluster).manifest
    rows, old = catalog(store, after), catalog(store, before)
    assert {key: rows[key]["split"] for key in old} == {key: row["split"] for key, row in old.items()}
    new = {scene_of(row["source"]): row["split"] for key, row in rows.items() if key not in old}
    order = ("train", "val", "test")
    assert new == {scene: max(splits, key=order.index) for scene, splits in places.items()}
    assert any(len(splits) > 1 for splits in places.values())
    assert after.facts["near_duplicates"]["images"] == 96


def messages(given: Spec, store: LocalStore, cluster: Cluster) -> list[str]:
    said: list[str] = []
    ingest(Context(store, cluster, given.run, message=said.append), given)
    return said


def test_only_new_frames_are_read_for_their_hash(root: Path, store: LocalStore, cluster: Cluster) -> None:
    given = own(root, store)
    assert messages(given, store, cluster) == ["hashing 72 images, so that near duplicates are kept in one split"]
    assert messages(given, store, cluster) == []
    for seed in (50, 51):
        frame(root / name("x", seed), seed)
    # The hashes of stored images are in the index; the cache may be lost.
    store.delete("listings/folder.hashes.parquet")
    assert messages(given, store, cluster) == ["hashing 2 images, so that near duplicates are kept in one split"]


def test_a_run_that_was_cut_short_hashes_nothing_again(root: Path, store: LocalStore, cluster: Cluster) -> None:
    given, done = own(root, store), list[int]()
    # Nine jobs hash 72 images, and then shards are made.
    with pytest.raises(CancelledError):
        ingest(Context(store, cluster, progress=lambda made, _: done.append(made), stop=lambda: len(done) > 11), given)
    assert done[:9] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert store.sizes("manifests/") == {}
    assert messages(given, store, cluster) == []


def test_what_cannot_be_read_is_quarantined_once(root: Path, store: LocalStore, cluster: Cluster) -> None:
    broken = root / name("x", 3, 1)
    broken.write_bytes(broken.read_bytes()[:-200])
    manifest = run(own(root, store), cluster).manifest
    assert [(q.source, q.reason) for q in manifest.quarantine] == [
        (name("x", 3, 1), "not readable: cut-off JPEG: no end-of-image marker")
    ]
    assert manifest.facts["near_duplicates"]["images"] == 71
    # Without the frame between them the first and the last are still near enough.
    assert splits_of(store, manifest)["3"] - {""} in ({"train"}, {"val"}, {"test"})


def test_too_many_unreadable_images_end_the_run_before_a_shard_is_made(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    for path in sorted(root.rglob("*.jpg"))[:9]:
        path.write_bytes(path.read_bytes()[:-200])
    given = spec(root, store, FOLDER, ingest={"size": 64, "crop": "none", "max_bad": 5})
    with pytest.raises(BudgetError, match=r"images are at fault.*cut-off JPEG"):
        run(given, cluster)
    assert store.sizes("shards/") == {}


def table(root: Path, store: LocalStore, **rest: Any) -> Spec:
    """The same frames through a table with patients."""
    corpus = {
        "adapter": "table",
        "modality": "endoscopy",
        "table": {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient"},
        "split": {"val": 0.25, "test": 0.25},
        **rest,
    }
    return spec(root, store, corpus, ingest={"size": 64, "crop": "none"})


def test_near_duplicates_join_no_known_patients(root: Path, store: LocalStore, no_cluster: Cluster) -> None:
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    labels(root, [f"{path},{path[0]},p{number}" for number, path in enumerate(paths)])
    # All patients are known: no picture is read before the split.
    notes = preview(table(root, store), store).facts["notes"]
    assert not any("near duplicates" in note for note in notes)
    with pytest.raises(Exception, match="nowhere"):
        run(table(root, store), no_cluster)


def test_images_without_a_patient_are_joined_beside_patients(root: Path, store: LocalStore, cluster: Cluster) -> None:
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    known = {path: f"p{number}" for number, path in enumerate(paths) if int(scene_of(path)) % 1000 < 6}
    labels(root, [f"{path},{path[0]},{known.get(path, '')}" for path in paths])
    manifest = run(table(root, store), cluster).manifest
    assert manifest.facts["near_duplicates"] == {"limit": 56, "images": 36, "clusters": 12, "joined": 36, "largest": 3}
    found = splits_of(store, manifest)
    assert all(len(found[scene]) == 1 for scene in found if int(scene) % 1000 >= 6)
    assert any(len(found[scene]) > 1 for scene in found if int(scene) % 1000 < 6)


def test_a_private_corpus_remembers_what_its_index_says_too(
    root: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    given = own(root, store)
    plain = run(given, cluster).manifest
    hidden = given.model_copy(update={"corpus": given.corpus.model_copy(update={"private": True, "name": "ours"})})
    manifest = run(hidden, cluster).manifest
    assert manifest.facts["near_duplicates"] == plain.facts["near_duplicates"]
    assert manifest.facts["images"] == plain.facts["images"]
    assert "listings/ours.hashes.parquet" not in store.sizes("listings/")
    known = from_parquet(store.get("listings/ours.hashes.keyed.parquet"))
    index = table_of(store, manifest, "index")
    assert set(zip(known["sha256"].to_pylist(), known["phash"].to_pylist(), strict=True)) == set(
        zip(index["source_sha256"].to_pylist(), index["phash"].to_pylist(), strict=True)
    )
    assert not set(known["sha256"].to_pylist()) & set(table_of(store, plain, "index")["source_sha256"].to_pylist())
    assert run(hidden, no_cluster).made == 0


def test_a_plan_says_what_is_not_known_yet_and_then_what_is(root: Path, store: LocalStore, cluster: Cluster) -> None:
    given = own(root, store)
    before = preview(given, store)
    assert before.to_hash == 72
    assert before.facts["notes"] == [
        "72 images without a patient are looked at for near duplicates before they are split; shares may then differ "
        "a little from these"
    ]
    manifest = run(given, cluster).manifest
    found = preview(given, store)
    assert (found.cached, found.to_hash, found.facts["images"]) == (True, 0, manifest.facts["images"])
    assert not any("near duplicates" in note for note in found.facts["notes"])


def test_a_cluster_of_much_of_a_corpus_is_pointed_out(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = videos(tmp_path / "corpus", scenes=4, frames=1)
    for seed in range(4):
        frame(root / name("x", seed, 1), seed, 1)
    note = run(own(root, store), cluster).manifest.facts["notes"][-1]
    assert note.endswith("look at it, name patients, or set corpus.split.near_duplicates: ignore")


def test_an_empty_split_is_put_down_to_the_cluster_that_made_it(
    tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    root = videos(tmp_path / "corpus", scenes=1, frames=6)
    with pytest.raises(
        CorpusError, match=r"no labelled image in the .* split.*12 of 12 .* are near duplicates.*ignore"
    ):
        run(own(root, store), cluster)


def test_pictures_of_one_colour_are_no_near_duplicates(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = tmp_path / "corpus"
    for kind in "xy":
        (root / kind).mkdir(parents=True)
        for number in range(12):
            flat = np.full((64, 64, 3), 5 * number + 128 * (kind == "y"), np.uint8)
            assert cv2.imwrite(str(root / kind / f"{number}.png"), flat)
    facts = run(own(root, store), cluster).manifest.facts
    assert facts["near_duplicates"]["clusters"] == 0
    assert facts["images"] == {"train": 12, "val": 6, "test": 6}
