"""One real ingest that every test gets a copy of its own of."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.ingest.parent import read_head
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import run, spec


@dataclass(frozen=True)
class IngestedStore:
    """A store with one ingested corpus."""

    corpus: Path
    store: LocalStore

    @property
    def manifest(self) -> Manifest:
        found = read_head(self.store, "eyepacs")
        assert found is not None
        return found

    @property
    def shards(self) -> list[str]:
        return [output.name for output in self.manifest.outputs_where(kind="shard")]

    def flip(self, name: str, at: int) -> None:
        """Change one byte of an object."""
        data = bytearray(self.store.get(name))
        data[at] ^= 1
        self.store.put(name, bytes(data))


@pytest.fixture(scope="package")
def original(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> IngestedStore:
    """40 graded images of 20 patients and 6 of the pool, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("kept")
    corpus = eyepacs(folder / "corpus", many_patients(20), pool=[f"{p}_left" for p in range(30, 36)])
    (corpus / "train/30_left.jpeg").write_bytes(b"")
    store = LocalStore(folder / "store")
    run(spec(corpus, store), cluster)
    return IngestedStore(corpus, store)


@pytest.fixture
def kept(original: IngestedStore, tmp_path: Path) -> IngestedStore:
    """A copy of the store that a test may damage, and a copy of the corpus."""
    corpus = shutil.copytree(original.corpus, tmp_path / "corpus")
    return IngestedStore(corpus, LocalStore(shutil.copytree(original.store.root, tmp_path / "store")))
