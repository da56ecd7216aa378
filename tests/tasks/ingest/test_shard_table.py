"""The stored images as people see them in Prefect's pages."""

from __future__ import annotations

from infra.storage.manifest import Output
from tasks.ingest.summary import SHOWN_SHARDS, shard_table


def shard(number: int, split: str, images: int, size: int) -> Output:
    name = f"shards/eyes/{split}-{number:05d}-0123.tar"
    kind = {"kind": "shard", "split": split}
    return Output(name=name, id=str(number), bytes=size, sha256="0", samples=images, meta=kind)


def test_every_shard_has_a_row_and_the_description_the_sums() -> None:
    found = shard_table("Eyes", [shard(0, "train", 1000, 12_300_000), shard(0, "test", 8, 80_000)])
    assert found.key == "shards-eyes"
    assert found.description == "1,008 images (1,000 train, 8 test) in 2 shards, 12.4 MB"
    assert found.content == [
        {"shard": "train-00000-0123.tar", "split": "train", "images": "1000", "size": "12.3 MB"},
        {"shard": "test-00000-0123.tar", "split": "test", "images": "8", "size": "80 kB"},
    ]


def test_of_many_shards_the_newest_are_shown_and_it_says_so() -> None:
    found = shard_table("eyes", [shard(number, "train", 1, 1) for number in range(SHOWN_SHARDS + 1)])
    assert len(found.content) == SHOWN_SHARDS
    assert found.description.endswith(f"; the last {SHOWN_SHARDS} are shown")
