"""The stage cache: a hit counts only when the bytes are there."""

from __future__ import annotations

import pytest

from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import LocalStore


@pytest.fixture
def cache(store: LocalStore) -> StageCache:
    return StageCache(store)


def committed(cache: StageCache) -> Manifest:
    outputs = [cache.put_object(f"data/{n}-{{sha8}}.bin", n.encode() * 10, unit=n, meta={"n": n}) for n in ("a", "b")]
    return cache.commit(Manifest(stage="ingest", version=1, key="k", inputs=[], section={}, outputs=outputs))


def test_a_whole_stage_is_found(cache: StageCache) -> None:
    manifest = committed(cache)
    hit = cache.lookup("ingest", "k")
    assert hit is not None
    assert hit.whole
    assert hit.manifest.digest == manifest.digest
    assert hit.message == "2 of 2 outputs found"


def test_another_key_is_no_hit(cache: StageCache) -> None:
    committed(cache)
    assert cache.lookup("ingest", "other") is None


def test_a_deleted_output_is_missing_alone(cache: StageCache) -> None:
    manifest = committed(cache)
    cache.store.delete(manifest.outputs[1].name)
    hit = cache.lookup("ingest", "k")
    assert hit is not None
    assert [o.meta["n"] for o in hit.missing] == ["b"]


def test_a_cut_output_is_missing(cache: StageCache) -> None:
    manifest = committed(cache)
    cache.store.put(manifest.outputs[0].name, b"a")
    hit = cache.lookup("ingest", "k")
    assert hit is not None
    assert [o.meta["n"] for o in hit.missing] == ["a"]


def test_verify_notices_a_flipped_byte(cache: StageCache) -> None:
    manifest = committed(cache)
    cache.store.put(manifest.outputs[0].name, b"a" * 9 + b"x")
    trusting, careful = cache.lookup("ingest", "k"), cache.lookup("ingest", "k", verify=True)
    assert trusting is not None
    assert trusting.whole
    assert careful is not None
    assert [o.meta["n"] for o in careful.missing] == ["a"]


def test_commit_refuses_what_is_not_stored(cache: StageCache) -> None:
    output = Output(name="data/x", id="1", bytes=3, sha256="1")
    with pytest.raises(CorruptError, match="data/x"):
        cache.commit(Manifest(stage="s", version=1, key="k", inputs=[], section={}, outputs=[output]))


def test_a_unit_record_counts_while_its_objects_are_there(cache: StageCache) -> None:
    output = cache.put_object("data/{sha}.bin", b"unit")
    cache.record("label", UnitRecord("u1", (output,), facts={"n": 1}))
    assert cache.recorded("label", ["u1", "u2"])["u1"].facts == {"n": 1}
    cache.store.delete(output.name)
    assert cache.recorded("label", ["u1", "u2"]) == {}


def test_a_damaged_manifest_counts_as_none_until_it_is_committed_again(
    cache: StageCache, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = committed(cache)
    cache.store.put(manifest.name, manifest.to_bytes().replace(b'"version":1', b'"version":2'))
    assert cache.lookup("ingest", "k") is None
    assert "manifests/ingest/k.json: damaged" in caplog.text
    cache.commit(manifest)
    hit = cache.lookup("ingest", "k")
    assert hit is not None
    assert hit.manifest == manifest


def test_a_damaged_unit_record_counts_as_none(cache: StageCache) -> None:
    output = cache.put_object("data/{sha}.bin", b"unit")
    for key in ("u1", "u2"):
        cache.record("label", UnitRecord(key, (output,)))
    cache.store.put("units/label/u1.json", cache.store.get("units/label/u1.json")[:-1])
    assert set(cache.recorded("label", ["u1", "u2"])) == {"u2"}


def test_the_digest_ignores_the_order_of_keys() -> None:
    one = Manifest(stage="s", version=1, key="k", inputs=[], section={"a": 1, "b": 2}, outputs=[])
    two = Manifest(stage="s", version=1, key="k", inputs=[], section={"b": 2, "a": 1}, outputs=[])
    assert one.digest == two.digest


def test_output_by_meta_must_be_unique(cache: StageCache) -> None:
    manifest = committed(cache)
    assert manifest.output(n="a").samples == 0
    with pytest.raises(KeyError, match="0 outputs"):
        manifest.output(n="c")
