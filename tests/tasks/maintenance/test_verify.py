"""Verify: whatever happened to a store is found, and said of the right object and sample."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.compute.cluster import Cluster
from infra.digest import sha256_bytes
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tasks.maintenance.repair import repair
from tasks.maintenance.verify import Defect, verify
from tests.tasks.maintenance.conftest import IngestedStore


def index_of(kept: IngestedStore, shard: int) -> list[dict[str, Any]]:
    """Rows of one shard."""
    table = from_parquet(kept.store.get(kept.manifest.output(kind="index").name))
    return [row for row in table.to_pylist() if row["shard"] == shard]


def only(kept: IngestedStore) -> Defect:
    (defect,) = verify(kept.store).defects
    return defect


def test_a_store_as_written_is_sound(original: IngestedStore) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(original.store, progress=lambda done, total: seen.append((done, total)))
    assert report.sound
    assert report.strays == 0
    outputs = original.manifest.outputs
    others = len(original.store.sizes("units/")) + len(original.store.sizes("shards/")) - len(original.shards) + 2
    assert report.objects == len(outputs) + others
    assert seen[-1] == (sum(o.bytes for o in outputs),) * 2


def test_an_empty_store_is_sound(store: LocalStore) -> None:
    assert verify(store).to_json() == {"objects": 0, "bytes": 0, "defects": [], "strays": 0, "stray_bytes": 0}


def test_a_lost_shard_names_all_its_samples(kept: IngestedStore) -> None:
    kept.store.delete(kept.shards[0])
    defect = only(kept)
    assert (defect.object, defect.kind) == (kept.shards[0], "missing")
    assert defect.samples == tuple(row["key"] for row in index_of(kept, 0))


def test_a_flipped_byte_of_an_image_names_its_key(kept: IngestedStore) -> None:
    row = index_of(kept, 1)[3]
    kept.flip(kept.shards[1], row["offset"] + row["size"] // 2)
    defect = only(kept)
    assert (defect.object, defect.kind, defect.samples) == (kept.shards[1], "bytes", (row["key"],))


def test_every_damaged_image_of_a_shard_is_named(kept: IngestedStore) -> None:
    rows = index_of(kept, 0)
    for row in rows[1:4]:
        kept.flip(kept.shards[0], row["offset"])
    assert only(kept).samples == tuple(row["key"] for row in rows[1:4])


def test_a_cut_shard_names_the_images_that_are_gone(kept: IngestedStore) -> None:
    rows = index_of(kept, 0)
    whole = kept.store.get(kept.shards[0])
    kept.store.put(kept.shards[0], whole[: rows[-2]["offset"] + 10])
    defect = only(kept)
    assert defect.kind == "size"
    assert defect.samples == (rows[-2]["key"], rows[-1]["key"])
    assert f"instead of {len(whole)}" in defect.detail
    assert "end of the archive" in defect.detail


def test_damage_beside_images_is_named_by_what_it_hits(kept: IngestedStore) -> None:
    name, rows = kept.shards[0], index_of(kept, 0)
    whole = kept.store.get(name)
    first, last = rows[0], rows[-1]
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        note = tar.getmember(f"{first['key']}.json")
    places = {
        first["offset"] - 512: f"header of {first['key']}.jpg",
        last["offset"] - 300: f"header of {last['key']}.jpg",
        note.offset: f"header of {first['key']}.json",
        note.offset_data: f"json of {first['key']}",
        note.offset_data + note.size: f"padding after {first['key']}.json",
        len(whole) - 1: "end of the archive",
    }
    for at, place in places.items():
        kept.store.put(name, whole)
        kept.flip(name, at)
        defect = only(kept)
        assert defect.samples == ()
        assert defect.detail == f"bytes are not those written; damaged in the {place}"


def test_a_shard_that_goes_on_is_a_defect(kept: IngestedStore) -> None:
    kept.store.put(kept.shards[0], kept.store.get(kept.shards[0]) + b"more")
    defect = only(kept)
    assert (defect.kind, defect.samples) == ("size", ())
    assert "end of the archive, which goes on" in defect.detail


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10**9), flip=st.integers(1, 255), cut=st.booleans(), which=st.integers(0, 100))
def test_any_flip_or_cut_of_any_object_is_found(
    kept: IngestedStore, where: int, flip: int, cut: bool, which: int
) -> None:
    names = [n for n in sorted(kept.store.sizes("")) if not n.startswith("listings/")]
    name = names[which % len(names)]
    whole = kept.store.get(name)
    at = where % len(whole)
    kept.store.put(name, whole[:at] if cut else whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
    try:
        assert name in {defect.object for defect in verify(kept.store).defects}
    finally:
        kept.store.put(name, whole)


@pytest.mark.parametrize("kind", ["index", "catalog"])
def test_a_lost_table_is_told_as_such(kept: IngestedStore, kind: str) -> None:
    kept.store.delete(kept.manifest.output(kind=kind).name)
    defect = only(kept)
    assert defect.kind == "missing"
    assert f"{kind} of ingest eyepacs" in defect.detail


def test_without_its_index_a_damaged_shard_is_still_told(kept: IngestedStore) -> None:
    kept.flip(kept.manifest.output(kind="index").name, 100)
    kept.flip(kept.shards[0], 600)
    defects = {d.object: d for d in verify(kept.store).defects}
    assert len(defects) == 2
    assert defects[kept.shards[0]].samples == ()
    assert "its index is lost too" in defects[kept.shards[0]].detail


def test_a_damaged_manifest_is_told_and_the_head_that_needs_it(kept: IngestedStore) -> None:
    manifest = kept.manifest
    kept.flip(manifest.name, 30)
    report = verify(kept.store)
    assert {(d.object, d.kind) for d in report.defects} == {
        (manifest.name, "manifest"),
        ("heads/eyepacs", "head"),
    }
    # The _info.json beside the shards belongs to nobody now either.
    assert report.strays == len(manifest.outputs) + 1


def test_a_head_that_points_elsewhere_is_told(kept: IngestedStore) -> None:
    manifest = kept.manifest
    other = manifest.model_copy(update={"section": {"other": 1}})
    kept.store.put(manifest.name, other.to_bytes())
    assert [(d.object, d.kind) for d in verify(kept.store).defects] == [("heads/eyepacs", "head")]


def test_a_manifest_under_another_name_is_told(kept: IngestedStore) -> None:
    kept.store.put("manifests/ingest/elsewhere.json", kept.manifest.to_bytes())
    defect = only(kept)
    assert (defect.object, defect.kind) == ("manifests/ingest/elsewhere.json", "manifest")


def test_a_lost_or_stale_info_is_told(kept: IngestedStore) -> None:
    name = f"{kept.shards[0].rpartition('/')[0]}/_info.json"
    kept.store.put(name, b"{}")
    assert (only(kept).object, only(kept).kind) == (name, "bytes")
    kept.store.delete(name)
    assert (only(kept).object, only(kept).kind) == (name, "missing")


def test_a_damaged_unit_record_is_told(kept: IngestedStore) -> None:
    name = sorted(kept.store.sizes("units/"))[0]
    kept.flip(name, 20)
    assert (only(kept).object, only(kept).kind) == (name, "bytes")


def test_what_no_manifest_names_is_a_stray_and_no_defect(kept: IngestedStore) -> None:
    StageCache(kept.store).put_object("labels/{sha}.safetensors", b"1234")
    report = verify(kept.store)
    assert (report.sound, report.strays, report.stray_bytes) == (True, 1, 4)


def test_a_teachers_damaged_file_is_told_and_removed(kept: IngestedStore, cluster: Cluster) -> None:
    whole, broken = (f"teachers/{sha256_bytes(data)}.onnx" for data in (b"whole", b"broken"))
    kept.store.put(whole, b"whole")
    kept.store.put(broken, b"broke")
    assert (only(kept).object, only(kept).kind) == (broken, "bytes")
    (action,) = repair(kept.store, cluster).actions
    assert (action.object, action.action) == (broken, "removed")
    assert verify(kept.store).sound
    assert verify(kept.store).strays == 0


def test_manifests_can_be_verified_alone(kept: IngestedStore) -> None:
    cache = StageCache(kept.store)
    output = cache.put_object("labels/{sha}.bin", b"1234", meta={"kind": "soft"})
    cache.record("label", UnitRecord("u", (output,)))
    alone = cache.commit(Manifest(stage="label", version=1, key="k", inputs=[], section={}, outputs=[output]))
    kept.store.delete(kept.shards[0])
    assert verify(kept.store, manifests=[alone]).to_json()["objects"] == 1
    assert verify(kept.store, manifests=[alone]).sound
    kept.store.put(output.name, b"1235")
    (defect,) = verify(kept.store, manifests=[alone]).defects
    assert defect.line.startswith(f"bytes    {output.name}: bytes are not those written (soft of label")
