"""A re-ingest with nothing new: one look at the source, one manifest, nothing hashed."""

from __future__ import annotations

import os
from pathlib import Path

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.ingest.digest_cache import DigestCache
from tasks.ingest.source_fingerprint import SourceFingerprint, digest_of_files
from tasks.ingest.stage import ingest
from tasks.pipeline.context import Context
from tasks.sources import open_source
from tests.tasks.corpora.layouts import image
from tests.tasks.ingest.specs import run, spec


class Recording(LocalStore):
    """A store that remembers what was read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_names: list[str] = []

    def get(self, name: str) -> bytes:
        self.read_names.append(name)
        return super().get(name)


def test_nothing_new_reads_no_table_and_hashes_nothing(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    image_file = corpus / "train/3_left.jpeg"
    seen = image_file.stat()
    image_file.write_bytes(b"\0" * seen.st_size)
    os.utime(image_file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    recording = Recording(store.root)
    again = ingest(Context(recording, no_cluster), spec(corpus, store))
    assert again.manifest.digest == first.manifest.digest
    assert {name.partition("/")[0] for name in recording.read_names} == {"heads", "manifests", "listings", "shards"}
    assert not [name for name in recording.read_names if name.endswith((".parquet", ".tar"))]
    assert len([name for name in recording.read_names if name.startswith("manifests/")]) == 1


def test_a_file_touched_but_not_changed_is_hashed_alone_and_nothing_is_made(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    os.utime(corpus / "train/3_left.jpeg", ns=(1, 1))
    again = run(spec(corpus, store), no_cluster)
    assert (again.made, again.manifest.digest) == (0, first.manifest.digest)
    listed = DigestCache(store, "eyepacs")
    source = open_source(corpus)
    assert "" not in listed.digests(source, source.files(), hash_new=False)[0].to_pylist()[:-1]


def test_another_request_is_not_taken_for_the_same(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    other = run(spec(corpus, store, ingest={"quality": 50}), cluster)
    assert other.manifest.digest != first.manifest.digest


def test_a_lost_fingerprint_costs_a_listing_and_nothing_else(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    first = run(spec(corpus, store), cluster)
    store.put("listings/eyepacs.json", b"{}")
    assert run(spec(corpus, store), no_cluster).manifest.digest == first.manifest.digest
    seen = SourceFingerprint.load(store, "eyepacs")
    assert seen is not None
    assert (seen.root, seen.digest) == (str(corpus), first.manifest.digest)


def test_the_digest_of_a_listing_sees_names_sizes_and_stamps(tmp_path: Path) -> None:
    image(tmp_path / "a/b.png")
    before = digest_of_files(open_source(tmp_path).files())
    os.utime(tmp_path / "a/b.png", ns=(1, 1))
    touched = digest_of_files(open_source(tmp_path).files())
    (tmp_path / "a/b.png").rename(tmp_path / "a/c.png")
    assert len({before, touched, digest_of_files(open_source(tmp_path).files())}) == 3
