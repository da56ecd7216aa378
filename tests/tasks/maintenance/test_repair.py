"""Repair: the same bytes again where the corpus still is, and plain words where not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from tasks.maintenance.repair import RepairReport, repair
from tasks.maintenance.verify import verify
from tests.tasks.corpora.layouts import csv, eyepacs, image, many_patients
from tests.tasks.ingest.specs import run, spec
from tests.tasks.maintenance.conftest import IngestedStore


def everything(kept: IngestedStore) -> dict[str, bytes]:
    """The store without its hints: unit records, and what the source looked like."""
    return {name: kept.store.get(name) for name in kept.store.sizes("") if not name.startswith(("listings/", "units/"))}


def mended(kept: IngestedStore, cluster: Cluster, **options: Any) -> RepairReport:
    return repair(kept.store, cluster, root=str(kept.corpus), **options)


def deeds(done: RepairReport) -> dict[str, str]:
    return {action.object: action.action for action in done.actions}


def grown(kept: IngestedStore, cluster: Cluster) -> tuple[Manifest, Manifest]:
    """A second ingest with new files; manifests of the first and of the second."""
    before = kept.manifest
    for patient in range(50, 55):
        image(kept.corpus / f"train/{patient}_left.jpeg", patient)
    rows = many_patients(20) | {"50_left": 1, "51_left": 2}
    csv(kept.corpus / "trainLabels.csv", "image,level", [f"{name},{level}" for name, level in rows.items()])
    after = run(spec(kept.corpus, kept.store), cluster).manifest
    assert after.facts["parent"] == before.key
    return before, after


@pytest.fixture
def no_cluster() -> Cluster:
    """A cluster that fails when anybody asks for a worker."""
    return Cluster(ClusterSection(kind="address", address="nowhere://0"))


def test_a_sound_store_is_left_alone(kept: IngestedStore, no_cluster: Cluster) -> None:
    done = mended(kept, no_cluster)
    assert (done.whole, done.defects, done.actions) == (True, (), ())


def test_lost_cut_and_flipped_shards_come_back_byte_for_byte(kept: IngestedStore, cluster: Cluster) -> None:
    before = everything(kept)
    lost, cut, flipped = kept.shards[:3]
    kept.store.delete(lost)
    kept.store.put(cut, before[cut][:1000])
    kept.flip(flipped, 600)
    done = mended(kept, cluster)
    assert done.whole
    assert deeds(done) == dict.fromkeys((lost, cut, flipped), "rebuilt")
    assert everything(kept) == before
    assert verify(kept.store).sound


def test_the_corpus_is_found_where_it_was_ingested(
    kept: IngestedStore, original: IngestedStore, cluster: Cluster
) -> None:
    kept.flip(kept.shards[0], 600)
    assert repair(kept.store, cluster).whole
    assert kept.store.get(kept.shards[0]) == original.store.get(kept.shards[0])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10**9), flip=st.integers(1, 255), cut=st.booleans(), which=st.integers(0, 100))
def test_any_damage_to_a_shard_is_undone(
    kept: IngestedStore, cluster: Cluster, where: int, flip: int, cut: bool, which: int
) -> None:
    name = kept.shards[which % len(kept.shards)]
    whole = kept.store.get(name)
    at = where % len(whole)
    kept.store.put(name, whole[:at] if cut else whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    try:
        assert deeds(mended(kept, cluster)) == {name: "rebuilt"}
        assert kept.store.get(name) == whole
    finally:
        kept.store.put(name, whole)


@pytest.mark.parametrize("kinds", [["index"], ["catalog"], ["index", "catalog"]])
def test_lost_tables_come_back_byte_for_byte(kept: IngestedStore, cluster: Cluster, kinds: list[str]) -> None:
    before = everything(kept)
    for kind in kinds:
        kept.store.delete(kept.manifest.output(kind=kind).name)
    kept.flip(kept.shards[1], 600)
    done = mended(kept, cluster)
    assert done.whole, done.actions
    assert everything(kept) == before


def test_tables_of_an_older_manifest_come_back_and_the_head_stays(kept: IngestedStore, cluster: Cluster) -> None:
    older, newer = grown(kept, cluster)
    before = everything(kept)
    kept.flip(older.output(kind="catalog").name, 100)
    kept.flip(newer.output(kind="index").name, 100)
    kept.flip(kept.shards[0], 700)
    # As it was when the first of them was ingested, the corpus is no longer there.
    done = mended(kept, cluster)
    assert not done.whole
    assert kept.manifest.digest == newer.digest
    assert deeds(done)[older.output(kind="catalog").name] == "left"
    assert {n: d for n, d in everything(kept).items() if n in before} == {
        **before,
        **{n: kept.store.get(n) for n, what in deeds(done).items() if what == "left"},
    }


def test_shards_of_a_grown_corpus_come_back(kept: IngestedStore, cluster: Cluster) -> None:
    grown(kept, cluster)
    before = everything(kept)
    for name in kept.shards:
        kept.store.delete(name)
    assert mended(kept, cluster).whole
    assert everything(kept) == before


def test_a_shard_whose_files_are_gone_stays_as_it_is_and_others_are_made(kept: IngestedStore, cluster: Cluster) -> None:
    key = verify_key(kept, kept.shards[0])
    (kept.corpus / f"train/{key}.jpeg").unlink()
    for name in kept.shards[:2]:
        kept.flip(name, 600)
    broken = kept.store.get(kept.shards[0])
    done = mended(kept, cluster)
    assert not done.whole
    assert deeds(done) == {kept.shards[0]: "left", kept.shards[1]: "rebuilt"}
    assert kept.store.get(kept.shards[0]) == broken
    (left,) = [action for action in done.actions if action.action == "left"]
    assert f"source file of {key} is no longer in the corpus" in left.detail


def verify_key(kept: IngestedStore, shard: str) -> str:
    """First key of a shard."""
    broken = kept.store.get(shard)
    kept.store.delete(shard)
    key = next(d.samples[0] for d in verify(kept.store).defects if d.object == shard)
    kept.store.put(shard, broken)
    return key


def test_changed_files_do_not_make_another_shard(kept: IngestedStore, cluster: Cluster) -> None:
    image(kept.corpus / f"train/{verify_key(kept, kept.shards[0])}.jpeg", seed=777)
    kept.flip(kept.shards[0], 600)
    broken = kept.store.get(kept.shards[0])
    assert deeds(mended(kept, cluster)) == {kept.shards[0]: "left"}
    assert kept.store.get(kept.shards[0]) == broken


def test_a_corpus_that_is_gone_is_told(kept: IngestedStore, cluster: Cluster, tmp_path: Path) -> None:
    kept.flip(kept.shards[0], 600)
    done = repair(kept.store, cluster, root=str(tmp_path / "nowhere"))
    assert deeds(done) == {kept.shards[0]: "left"}
    assert "nowhere" in done.actions[0].detail


def test_without_a_note_of_the_corpus_root_is_asked_for(kept: IngestedStore, cluster: Cluster) -> None:
    kept.flip(kept.shards[0], 600)
    kept.store.delete("listings/eyepacs.json")
    assert "--root" in repair(kept.store, cluster).actions[0].detail
    assert mended(kept, cluster).whole


def test_root_is_for_one_corpus(kept: IngestedStore, cluster: Cluster, tmp_path: Path) -> None:
    second = eyepacs(tmp_path / "second", many_patients(20))
    run(spec(second, kept.store, {"name": "second"}), cluster)
    for name in (kept.shards[0], next(n for n in kept.store.sizes("shards/second/") if n.endswith(".tar"))):
        kept.flip(name, 600)
    with pytest.raises(UsageError, match="several are broken: eyepacs, second"):
        mended(kept, cluster)
    shutil.rmtree(kept.corpus)
    assert repair(kept.store, cluster).whole


def test_a_damaged_unit_record_is_removed(kept: IngestedStore, no_cluster: Cluster) -> None:
    name = sorted(kept.store.sizes("units/"))[0]
    kept.flip(name, 30)
    assert deeds(mended(kept, no_cluster)) == {name: "removed"}
    assert verify(kept.store).sound


def test_info_comes_from_the_manifest(kept: IngestedStore, no_cluster: Cluster) -> None:
    name = f"{kept.shards[0].rpartition('/')[0]}/_info.json"
    whole = kept.store.get(name)
    for damage in (lambda: kept.flip(name, 3), lambda: kept.store.delete(name)):
        damage()
        assert deeds(mended(kept, no_cluster)) == {name: "restored"}
        assert kept.store.get(name) == whole


def flip_head(kept: IngestedStore) -> None:
    kept.flip("heads/eyepacs", 12)


def dangle_head(kept: IngestedStore) -> None:
    kept.store.put("heads/eyepacs", kept.store.get("heads/eyepacs").replace(b'"ingest"', b'"digest"'))


@pytest.mark.parametrize("damage", [flip_head, dangle_head])
def test_a_head_is_told_by_what_the_last_ingest_made(
    kept: IngestedStore, cluster: Cluster, no_cluster: Cluster, damage: Callable[[IngestedStore], None]
) -> None:
    run(spec(kept.corpus, kept.store, ingest={"size": 18}), cluster)
    whole = kept.store.get("heads/eyepacs")
    damage(kept)
    assert deeds(mended(kept, no_cluster)) == {"heads/eyepacs": "restored"}
    assert kept.store.get("heads/eyepacs") == whole


def test_a_damaged_newest_manifest_gives_way_to_its_parent(kept: IngestedStore, cluster: Cluster) -> None:
    older, newer = grown(kept, cluster)
    kept.flip(newer.name, 40)
    done = mended(kept, cluster)
    assert done.whole
    assert deeds(done)["heads/eyepacs"] == "restored"
    assert kept.manifest.digest == older.digest
    assert run(spec(kept.corpus, kept.store), cluster).manifest.digest == newer.digest


def test_a_damaged_only_manifest_is_made_again_by_the_next_ingest(kept: IngestedStore, cluster: Cluster) -> None:
    manifest = kept.manifest
    kept.flip(manifest.name, 40)
    done = mended(kept, cluster)
    assert not done.whole
    assert deeds(done)[manifest.name] == "removed"
    assert deeds(done)["heads/eyepacs"] == "left"
    again = run(spec(kept.corpus, kept.store), cluster)
    assert again.manifest.digest == manifest.digest
    assert verify(kept.store).sound


def test_what_other_stages_made_is_removed_for_the_next_run(kept: IngestedStore, no_cluster: Cluster) -> None:
    cache = StageCache(kept.store)
    outputs = [cache.put_object(f"models/{n}-{{sha8}}.bin", np.full(9, n).tobytes()) for n in range(3)]
    model = cache.commit(Manifest(stage="distill", version=1, key="k", inputs=[], section={}, outputs=outputs))
    kept.flip(outputs[0].name, 3)
    kept.store.delete(outputs[1].name)
    done = mended(kept, no_cluster)
    assert done.whole
    assert deeds(done) == {outputs[0].name: "removed", outputs[1].name: "owed"}
    assert all("stillroom retrain SPEC" in action.detail for action in done.actions)
    hit = cache.lookup("distill", "k")
    assert hit is not None
    assert hit.missing == outputs[:2]
    kept.flip(model.name, 3)
    assert deeds(mended(kept, no_cluster)) == {model.name: "removed"}
    assert verify(kept.store).sound


def test_a_catalog_of_part_of_a_corpus_comes_out_as_it_was(kept: IngestedStore, cluster: Cluster) -> None:
    made = run(spec(kept.corpus, kept.store, {"name": "left", "where": {"eye": ["left"]}}), cluster).manifest
    assert made.facts["left_out"] > 0
    name = made.output(kind="catalog").name
    before = kept.store.get(name)
    kept.store.delete(name)
    done = mended(kept, cluster)
    assert deeds(done)[name] == "rebuilt"
    assert kept.store.get(name) == before
