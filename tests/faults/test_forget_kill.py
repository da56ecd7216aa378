"""Forget killed at random moments and started again: as if it had never been killed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.soft_labels import SoftLabelReader
from tasks.maintenance.forgetting.forget import forget
from tasks.maintenance.verify import verify
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import run, spec
from tests.tasks.label.teachers import save_weights
from tests.tasks.maintenance.erasing import corpus_of, label_store, search, traces

MOMENTS = 10
PATIENT = "19"


class CountingStore(LocalStore):
    """A folder that counts its changes as `DyingStore` does."""

    changes = 0

    def put(self, name: str, data: bytes) -> None:
        self.changes += not name.startswith("locks/")
        super().put(name, data)

    def delete(self, name: str) -> None:
        self.changes += not name.startswith("locks/")
        super().delete(name)


@pytest.mark.usefixtures("home")
def test_an_erasure_killed_at_ten_moments_ends_as_if_it_had_not_been(tmp_path: Path, cluster: Cluster) -> None:
    corpus = eyepacs(tmp_path / "corpus", many_patients(20), pool=["30_left"])
    store = LocalStore(tmp_path / "store")
    run(spec(corpus, store), cluster)
    weights = save_weights(tmp_path, classes=5)
    labels = label_store(store, weights, cluster)
    wanted = traces(store, PATIENT, labels)
    undisturbed = CountingStore(shutil.copytree(store.root, tmp_path / "undisturbed"))
    forget(undisturbed, patients=[PATIENT])
    moments = random.SystemRandom().sample(range(1, undisturbed.changes), MOMENTS)
    copies = [shutil.copytree(store.root, tmp_path / f"killed-{moment}") for moment in moments]
    program = [sys.executable, "-m", "tests.tasks.maintenance.dying_store", PATIENT]
    places = [str(part) for pair in zip(copies, moments, strict=True) for part in pair]
    said = subprocess.run([*program, *places], check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in said] == ["9"] * MOMENTS
    for copy, moment in zip(copies, moments, strict=True):
        own = LocalStore(copy)
        # Before the second change there is no tombstone, and nobody was promised anything.
        forget(own, patients=[PATIENT] if moment < 2 else [])
        assert search(own, wanted) == [], moment
        assert verify(own).defects == (), moment
        assert _names(own) == _names(undisturbed), moment
    last = LocalStore(copies[-1])
    assert _predictions(last, weights, cluster) == _predictions(undisturbed, weights, cluster)


def _names(store: LocalStore) -> set[str]:
    """All objects but tombstones, whose salt differs, and the mark that a killed one left."""
    return {name for name in store.sizes("") if not name.startswith(("forgotten/", "locks/"))}


def _predictions(store: LocalStore, weights: Path, cluster: Cluster) -> list[list[float]]:
    manifest = label_store(store, weights, cluster)
    corpus = corpus_of(store)
    reader = SoftLabelReader(corpus, [manifest])
    return [reader.rows(number, 0).logits[0].ravel().tolist() for number in range(len(corpus.shards))]
