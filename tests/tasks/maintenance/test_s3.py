"""Verify, gc, inspect and repair on a store in a real S3 server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import Store
from tasks.ingest.parent import read_head
from tasks.ingest.stage import ingest
from tasks.maintenance.forgetting.forget import forget
from tasks.maintenance.inspect import inspect
from tasks.maintenance.repair import repair
from tasks.maintenance.verify import verify
from tasks.pipeline.context import Context
from tests.s3server import S3Server
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import spec
from tests.tasks.maintenance.erasing import search, traces
from tests.tasks.maintenance.test_gc import collect


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.bucket()


@pytest.fixture
def kept(s3_server: S3Server, bucket: str, tmp_path: Path, cluster: Cluster) -> Store:
    """A store in S3 with one ingested corpus."""
    from infra.storage.store import open_store

    store = open_store(s3_server.url(bucket, "kept"))
    corpus = eyepacs(tmp_path / "corpus", many_patients(20), pool=["30_left"])
    ingest(Context(store, cluster), spec(corpus, store))  # type: ignore[arg-type]
    return store


def shards(store: Store) -> list[str]:
    head = read_head(store, "eyepacs")
    assert head is not None
    return [output.name for output in head.outputs_where(kind="shard")]


def test_rot_on_the_server_is_found_by_sample_and_undone(
    kept: Store, s3_server: S3Server, bucket: str, cluster: Cluster
) -> None:
    assert verify(kept).sound
    whole = {name: kept.get(name) for name in kept.sizes("shards/")}
    name = shards(kept)[0]
    sample = inspect(kept, name)["samples"][3]
    place = inspect(kept, sample["key"])["shard"]
    # Read once, so that a right copy lies on this machine, and then let the disk of the server rot.
    kept.read(name, 0, 512)
    file = s3_server.file(bucket, f"kept/{name}")
    data = bytearray(file.read_bytes())
    data[place["offset"] + 5] ^= 1
    file.write_bytes(bytes(data))
    (defect,) = verify(kept).defects
    assert (defect.object, defect.kind, defect.samples) == (name, "bytes", (sample["key"],))
    assert not inspect(kept, sample["key"])["shard"]["whole"]
    done = repair(kept, cluster)
    assert [(a.object, a.action) for a in done.actions] == [(name, "rebuilt")]
    assert {name: file_of(s3_server, bucket, name) for name in whole} == whole
    assert verify(kept).sound


def file_of(server: S3Server, bucket: str, name: str) -> bytes:
    return server.file(bucket, f"kept/{name}").read_bytes()


def test_lost_and_cut_objects_are_found_and_undone(
    kept: Store, s3_server: S3Server, bucket: str, cluster: Cluster
) -> None:
    before = {name: kept.get(name) for name in kept.sizes("") if not name.startswith(("listings/", "units/"))}
    lost, cut = shards(kept)[:2]
    kept.delete(lost)
    file = s3_server.file(bucket, f"kept/{cut}")
    file.write_bytes(file.read_bytes()[:1500])
    assert {d.object: d.kind for d in verify(kept).defects} == {lost: "missing", cut: "size"}
    assert repair(kept, cluster).whole
    assert {name: file_of(s3_server, bucket, name) for name in before} == before


def test_old_and_unreachable_goes(
    kept: Store, s3_server: S3Server, bucket: str, tmp_path: Path, cluster: Cluster
) -> None:
    first = shards(kept)
    ingest(Context(kept, cluster), spec(tmp_path / "corpus", kept, ingest={"size": 18}))  # type: ignore[arg-type]
    for name in kept.sizes(""):
        os.utime(s3_server.file(bucket, f"kept/{name}"), (10**9, 10**9))
    assert set(first) <= {item.name for item in collect(kept, registry=False).items}
    assert set(first) <= kept.sizes("").keys()
    collect(kept, registry=False, delete=True)
    assert not set(first) & kept.sizes("").keys()
    assert (verify(kept).sound, verify(kept).strays) == (True, 0)


def test_an_erasure_leaves_nothing_on_the_server(kept: Store, cluster: Cluster) -> None:
    wanted = traces(kept, "19")
    assert search(kept, wanted)
    assert forget(kept, patients=["19"]).corpora[0].images == 2
    assert search(kept, wanted) == []
    assert verify(kept).sound
