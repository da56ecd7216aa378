"""Real images from a folder, a zip, split zip parts, a tar and S3: the same shards.

Of each subset a part, with its whole tables: what adapters make of a source is the same for a hundred images and for
a thousand. `test_real` ingests the whole subsets.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tests.s3server import S3Server
from tests.tasks.ingest.real_corpora import CORPORA
from tests.tasks.ingest.specs import run, spec
from tests.tasks.sources.packing import cut, files_of, tar_of, zip_of

pytestmark = pytest.mark.real

EVERY = 8  # of so many images of a folder one is taken
COUNTS = {
    "hyper-kvasir": {"train": 77, "val": 8, "test": 53},
    "imo-fundus": {"train": 43, "val": 2, "test": 3},
    "chestx-ray14": {"train": 58, "val": 10, "test": 23},
}


def part_of(folder: Path, target: Path) -> Path:
    """A copy with some of the images and all other files."""
    files = files_of(folder)
    images = [path for path in files if path.suffix in (".jpg", ".png")]
    left_out = set(images) - set(images[::EVERY])
    for path in files:
        if path not in left_out:
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return target


def in_s3(server: S3Server, folder: Path) -> str:
    bucket = server.bucket()
    for path in files_of(folder):
        place = server.file(bucket, f"corpus/{path.relative_to(folder).as_posix()}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return server.url(bucket, "corpus")


def shards(manifest: Manifest) -> dict[str, str]:
    return {o.name: o.sha256 for o in manifest.outputs_where(kind="shard")}


@pytest.mark.parametrize("name", CORPORA)
def test_every_source_gives_the_same_shards(
    name: str, real_data: Path, tmp_path: Path, cluster: Cluster, s3_server: S3Server
) -> None:
    folder = part_of(real_data / name, tmp_path / name)
    sources: dict[str, Callable[[], Path | str]] = {
        "folder": lambda: folder,
        "zip": lambda: zip_of(folder, tmp_path / "corpus.zip"),
        "zip of a folder": lambda: zip_of(folder, tmp_path / "within.zip", within=f"{name}/"),
        "split zip": lambda: cut(tmp_path / "corpus.zip", tmp_path / "parts/corpus.zip.001", 4),
        "tar": lambda: tar_of(folder, tmp_path / "corpus.tar"),
        "s3": lambda: in_s3(s3_server, folder),
    }
    found = {}
    for kind, make in sources.items():
        store = LocalStore(tmp_path / "stores" / kind)
        given = spec(tmp_path, store, {**CORPORA[name], "root": make()}, ingest={"size": 96, "shard_size": 16})
        manifest = run(given, cluster).manifest
        found[kind] = (manifest.digest, shards(manifest))
        assert manifest.facts["images"] == COUNTS[name], kind
    assert len({digest for digest, _ in found.values()}) == 1
    assert len({tuple(sorted(own.items())) for _, own in found.values()}) == 1
