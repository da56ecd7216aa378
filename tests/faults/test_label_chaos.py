"""Workers that die at random while they label, and one image that kills whoever reads it."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import read_soft_labels
from tasks.spec import Spec
from tests.tasks.label.teachers import label_one, spec_of
from tests.tiny import tiny_corpus

KILLS = int(os.environ.get("STILLROOM_KILLS", "3"))
FLOAT16 = 2.0**-10  # relative spacing of float16


def deadly_spec(store: LocalStore, *, deadly: bool = False) -> Spec:
    """A teacher that is a function of ours: slow enough to be killed at work, and deadly on one picture."""
    teacher = {
        "name": "small",
        "model": "python:tests.tasks.label.functions:teacher",
        "version": "1",
        "options": {"deadly": deadly},
    }
    return spec_of(store, Path("none"), teachers=[teacher], run={"device": "cpu", "attempts": 20})


@contextmanager
def kills(cluster: Cluster, count: int) -> Iterator[list[int]]:
    """Kill a random worker now and then, `count` times or until the block ends."""
    over, killed, chance = threading.Event(), [], random.Random(7)

    def work() -> None:
        while len(killed) < count and not over.wait(chance.uniform(0.5, 2.0)):
            # A worker that died a moment ago answers no more.
            pids = list(cluster.client.run(os.getpid, on_error="ignore").values())
            if pids:
                victim = chance.choice(pids)
                psutil.Process(victim).kill()
                killed.append(victim)

    thread = threading.Thread(target=work, name="chaos")
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def logits(store: LocalStore, manifest: Manifest) -> dict[str, np.ndarray]:
    return {o.unit: read_soft_labels(store.get(o.name)).logits for o in manifest.outputs}


@pytest.fixture(scope="module")
def workers() -> Iterator[Cluster]:
    with Cluster(ClusterSection(workers=2)) as cluster:
        yield cluster


def corpus_in(folder: Path, **rest: Any) -> Corpus:
    return tiny_corpus(LocalStore(folder), train=64, unlabelled=64, val=16, test=16, **rest)


def test_killed_workers_change_neither_keys_nor_logits(tmp_path: Path, workers: Cluster) -> None:
    calm = corpus_in(tmp_path / "calm")
    truth = label_one(calm, deadly_spec(calm.store), workers)
    stormy = corpus_in(tmp_path / "stormy")
    with kills(workers, KILLS) as killed:
        found = label_one(stormy, deadly_spec(stormy.store), workers)
    assert killed
    expected, got = logits(calm.store, truth.manifest), logits(stormy.store, found.manifest)
    assert got.keys() == expected.keys()
    for unit, values in got.items():
        assert np.allclose(values, expected[unit], rtol=FLOAT16, atol=FLOAT16)


def test_a_poison_image_is_named_and_all_others_are_labelled(tmp_path: Path, workers: Cluster) -> None:
    corpus = tiny_corpus(LocalStore(tmp_path), shard_size=4, black=["train-0013"])
    found = label_one(corpus, deadly_spec(corpus.store, deadly=True), workers)
    (kept_out,) = found.manifest.quarantine
    assert kept_out.source == "train-0013"
    assert "killed by signal 9" in kept_out.reason
    invalid = {(o.meta["shard"], o.meta["view"]): o.meta["invalid"] for o in found.manifest.outputs}
    assert {at for at, count in invalid.items() if count} == {(3, view) for view in (0, 1, 2)}
    assert set(invalid.values()) == {0, 1}
