"""One real ingest that every test gets a copy of its own of."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.soft_labels import SoftLabelReader
from tasks.ingest.parent import read_head
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import run, spec
from tests.tasks.label.teachers import save_weights
from tests.tasks.maintenance.erasing import corpus_of, label_store, labels_of


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


@pytest.fixture(scope="package")
def labelled(original: IngestedStore, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> IngestedStore:
    """The ingested store with soft labels, two of three views mixed."""
    folder = tmp_path_factory.mktemp("labelled")
    store = LocalStore(shutil.copytree(original.store.root, folder / "store"))
    label_store(store, save_weights(folder, classes=5), cluster)
    return IngestedStore(original.corpus, store)


@pytest.fixture
def own(labelled: IngestedStore, tmp_path: Path) -> IngestedStore:
    """A copy of it for one test."""
    corpus = shutil.copytree(labelled.corpus, tmp_path / "corpus")
    return IngestedStore(corpus, LocalStore(shutil.copytree(labelled.store.root, tmp_path / "store")))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_weights(tmp_path, classes=5)


@pytest.fixture
def patient(labelled: IngestedStore) -> str:
    """A patient of the training split, mixed with others in some view."""
    corpus, labels = corpus_of(labelled.store), labels_of(labelled.store)
    reader = SoftLabelReader(corpus, [labels])
    for number, shard in enumerate(corpus.shards):
        partner = reader.rows(number, 1).partner if shard.split == "train" else None
        for row, name in enumerate(shard.patient):
            mixed = partner is not None and partner[row] >= 0 and shard.patient[partner[row]] != name
            # Of two digits, so that its name is no part of another's.
            if mixed and 10 <= int(name) < 20:
                return str(name)
    raise AssertionError("no patient is mixed with another")
