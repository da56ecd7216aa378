"""Any byte of any shard flipped, any shard cut: verify notices, and no reader hands out a wrong sample.

`STILLROOM_FLIPS` says how many damages to try on a real subset (default 200); the draws repeat.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.compute.cluster import Cluster
from infra.errors import CorruptError
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, read_image
from tasks.ingest.reader import as_webdataset
from tasks.ingest.stage import ingest
from tasks.maintenance.repair import repair
from tasks.maintenance.verify import verify
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import spec

FLIPS = int(os.environ.get("STILLROOM_FLIPS", "200"))
Sample = tuple[str, bytes]
Read = Callable[[Corpus, str], Iterator[Sample]]


def streamed(corpus: Corpus, split: str) -> Iterator[Sample]:
    """As labelling by others reads: through WebDataset."""
    for sample in as_webdataset(corpus.store, corpus.manifest, split):
        yield sample["__key__"], sample.get("jpg") or sample["png"]


def singly(corpus: Corpus, split: str) -> Iterator[Sample]:
    """As training and labelling read: image by image."""
    for shard in corpus.of_split(split):
        for row in range(len(shard)):
            yield str(shard.keys[row]), read_image(corpus.store, shard, row)


READERS: tuple[Read, ...] = (streamed, singly)


@dataclass(frozen=True)
class Truth:
    """An undamaged store."""

    corpus: Corpus
    spec: Spec
    samples: dict[str, list[Sample]]  # by split

    @classmethod
    def of(cls, given: Spec, cluster: Cluster) -> Truth:
        store = LocalStore(Path(given.store))
        corpus = Corpus(store, ingest(Context(store, cluster, given.run), given).manifest)
        return cls(corpus, given, {split: list(singly(corpus, split)) for split in ("train", "val", "test")})

    @property
    def shards(self) -> list[Path]:
        return [self.corpus.store.local_path(o.name) for o in self.corpus.manifest.outputs_where(kind="shard")]

    def split_of(self, shard: int) -> str:
        return str(self.corpus.manifest.outputs_where(kind="shard")[shard].meta["split"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Truth:
    root = tmp_path_factory.mktemp("damage")
    return Truth.of(spec(eyepacs(root / "corpus", many_patients(20)), LocalStore(root / "store")), cluster)


def right_or_an_error(read: Read, truth: Truth, split: str) -> None:
    found = []
    try:
        found.extend(read(truth.corpus, split))
    except CorruptError:
        assert found == truth.samples[split][: len(found)]
    else:
        assert found == truth.samples[split]


def hurt(whole: bytes, place: float, flip: int) -> bytes:
    """A byte flipped at a relative place, or, with flip 0, everything from there cut away."""
    at = int(place * len(whole))
    return whole[:at] + (bytes([whole[at] ^ flip]) + whole[at + 1 :] if flip else b"")


@given(st.data())
def test_any_damage_is_noticed_and_reaches_no_batch(tiny: Truth, data: Any) -> None:
    shard = data.draw(st.integers(0, len(tiny.shards) - 1))
    place = data.draw(st.floats(0, 1, exclude_max=True))
    flip = data.draw(st.integers(0, 255))
    path = tiny.shards[shard]
    whole = path.read_bytes()
    try:
        path.write_bytes(hurt(whole, place, flip))
        verdict = verify(tiny.corpus.store, manifests=[tiny.corpus.manifest])
        assert [d.object for d in verdict.defects] == [tiny.corpus.manifest.outputs[shard].name]
        for read in READERS:
            right_or_an_error(read, tiny, tiny.split_of(shard))
    finally:
        path.write_bytes(whole)


@pytest.mark.real
def test_a_real_subset_under_many_damages(tmp_path: Path, cluster: Cluster, real_data: Path) -> None:
    table = {"csv": "labels.csv", "images": "images", "image": "Name", "label": "DME"}
    corpus = {"adapter": "table", "root": real_data / "imo-fundus", "modality": "fundus", "table": table}
    given = spec(tmp_path, LocalStore(tmp_path / "store"), corpus, ingest={"size": 96, "shard_size": 48})
    truth = Truth.of(given, cluster)
    store, shards = truth.corpus.store, truth.shards
    outputs = truth.corpus.manifest.outputs_where(kind="shard")
    draw = random.Random(5)
    unnoticed = 0
    for _ in range(FLIPS):
        shard = draw.randrange(len(shards))
        whole = shards[shard].read_bytes()
        shards[shard].write_bytes(hurt(whole, draw.random(), draw.randrange(256)))
        found = verify(store, manifests=[truth.corpus.manifest]).defects
        unnoticed += [d.object for d in found] != [outputs[shard].name]
        for read in READERS:
            right_or_an_error(read, truth, truth.split_of(shard))
        shards[shard].write_bytes(whole)
    assert unnoticed == 0


def test_repair_restores_the_same_bytes(tiny: Truth, cluster: Cluster) -> None:
    before = [path.read_bytes() for path in tiny.shards]
    draw = np.random.default_rng(3)
    for path, whole in zip(tiny.shards, before, strict=True):
        path.write_bytes(hurt(whole, draw.random(), int(draw.integers(256))))
    assert repair(tiny.corpus.store, cluster).whole
    assert [path.read_bytes() for path in tiny.shards] == before
