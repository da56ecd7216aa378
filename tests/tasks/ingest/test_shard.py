"""One shard, made in this process."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from infra.digest import sha256_file
from infra.errors import CorruptError
from infra.storage.store import LocalStore
from tasks.ingest.shard import ShardItem, ShardJob, SourceChangedError, make_shard
from tests.tasks.corpora.layouts import image

RECIPE = {"size": 16, "encode": "jpeg", "quality": 92, "crop": "none", "max_pixels": 10_000}


def stamp(path: Path) -> str:
    return f"f:{path.stat().st_mtime_ns}"


def job(root: Path, store: LocalStore, labels: tuple[int, ...] | None = None) -> ShardJob:
    items = []
    for seed, key in enumerate("abc"):
        path = image(root / f"{key}.png", seed)
        items.append(ShardItem(key, path.name, stamp(path), sha256_file(path), seed - 1, labels))
    return ShardJob(store.url, str(root), "shards/x/00000000", "train", 3, RECIPE, tuple(items))


def members(store: LocalStore, name: str) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(store.get(name)), mode="r:") as tar:
        return tar.getmembers()


def test_a_shard_is_named_by_its_bytes(tmp_path: Path, store: LocalStore) -> None:
    (output,) = make_shard(job(tmp_path, store)).outputs
    assert output.name == f"shards/x/00000000/train-00003-{output.sha256[:8]}.tar"
    assert (output.id, output.samples, output.meta) == (
        output.sha256,
        3,
        {"kind": "shard", "split": "train", "number": 3},
    )


def test_members_are_sorted_and_hold_nothing_of_this_machine(tmp_path: Path, store: LocalStore) -> None:
    (output,) = make_shard(job(tmp_path, store)).outputs
    found = members(store, output.name)
    assert [m.name for m in found] == ["a.jpg", "a.json", "b.jpg", "b.json", "c.jpg", "c.json"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in found} == {(0, 0, 0, "", "", 0o644)}
    assert store.get(output.name)[257:263] == b"ustar\0"


def test_the_record_says_where_every_image_lies(tmp_path: Path, store: LocalStore) -> None:
    record = make_shard(job(tmp_path, store))
    data = store.get(record.outputs[0].name)
    for key, ext, offset, size, crc, width, height, _ in record.facts["rows"]:
        assert data[offset : offset + 2] == b"\xff\xd8"
        assert (zlib.crc32(data[offset : offset + size]), key in "abc") == (crc, True)
        assert (ext, width, height) == ("jpg", 24, 20)


@pytest.mark.parametrize("labels", [None, (1, 0, -1)])
def test_the_json_holds_the_labels_as_at_ingest(
    tmp_path: Path, store: LocalStore, labels: tuple[int, ...] | None
) -> None:
    (output,) = make_shard(job(tmp_path, store, labels)).outputs
    with tarfile.open(fileobj=io.BytesIO(store.get(output.name)), mode="r:") as tar:
        notes = [json.load(tar.extractfile(f"{key}.json")) for key in "abc"]  # type: ignore[arg-type]
    more = {} if labels is None else {"labels": [1, 0, -1]}
    assert notes == [{"label": -1, **more}, {"label": 0, **more}, {"label": 1, **more}]


def test_the_same_images_make_the_same_bytes(tmp_path: Path, store: LocalStore) -> None:
    elsewhere = LocalStore(tmp_path / "elsewhere")
    first = make_shard(job(tmp_path / "in", store))
    second = make_shard(job(tmp_path / "in-another-place", elsewhere))
    assert first == second


def test_bad_images_are_quarantined_and_the_others_kept(tmp_path: Path, store: LocalStore) -> None:
    whole = job(tmp_path, store)
    (tmp_path / "b.png").write_bytes(b"")
    items = tuple(replace(i, stamp=stamp(tmp_path / i.path)) for i in whole.items)
    record = make_shard(replace(whole, items=items))
    assert [(q.source, q.reason) for q in record.quarantine] == [("b", "not readable: the file is empty (zero bytes)")]
    assert record.outputs[0].samples == 2


def test_a_shard_of_bad_images_alone_is_not_stored(tmp_path: Path, store: LocalStore) -> None:
    whole = job(tmp_path, store)
    (tmp_path / "a.png").write_bytes(b"no image")
    only = (replace(whole.items[0], stamp=stamp(tmp_path / "a.png")),)
    assert make_shard(replace(whole, items=only)).outputs == ()
    assert store.sizes("shards/") == {}


def test_a_file_that_changed_under_the_run_is_reported(tmp_path: Path, store: LocalStore) -> None:
    whole = job(tmp_path, store)
    image(tmp_path / "b.png", seed=99)
    with pytest.raises(SourceChangedError, match="the file of b changed since it was listed"):
        make_shard(whole)


def test_a_shard_that_does_not_come_out_the_same_is_not_stored(tmp_path: Path, store: LocalStore) -> None:
    with pytest.raises(CorruptError, match="train-00003: made again it is not the shard"):
        make_shard(replace(job(tmp_path, store), sha="0" * 64))
    assert store.sizes("") == {}
