"""After an erasure: what learned of the patient is listed, and nothing of it comes back or is swept away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorruptError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from tasks.maintenance.forgetting.forget import forget
from tasks.maintenance.verify import verify
from tests.tasks.ingest.specs import run, spec
from tests.tasks.label.teachers import label_one, spec_of
from tests.tasks.maintenance.conftest import IngestedStore
from tests.tasks.maintenance.erasing import corpus_of
from tests.tasks.maintenance.test_gc import age, collect


def test_models_that_learned_of_the_patient_are_listed(own: IngestedStore, patient: str) -> None:
    cache, corpus = StageCache(own.store), own.manifest
    weights = cache.put_object("models/eyepacs/{sha8}.bin", b"weights", meta={"kind": "model"})
    inputs = [corpus.digest]
    section = {"arm": "student", "seed": 3}
    student = Manifest(stage="distill", version=1, key="b" * 64, inputs=inputs, section=section, outputs=[weights])
    facts = {"name": "eyes", "version": "7"}
    inputs = [student.digest, corpus.digest]
    version = Manifest(stage="register", version=1, key="c" * 64, inputs=inputs, section={}, outputs=[], facts=facts)
    for manifest in (student, version):
        cache.commit(manifest)
    learned = forget(own.store, patients=[patient]).learned
    assert learned.versions == [{"name": "eyes", "version": "7"}]
    assert learned.models == [{"arm": "student", "seed": 3, "manifest": student.name}]
    assert own.store.exists(weights.name)
    assert verify(own.store).defects == ()


def test_what_was_judged_with_the_patient_goes_and_the_rest_stays(own: IngestedStore) -> None:
    cache, corpus = StageCache(own.store), corpus_of(own.store)
    table = cache.put_object("reports/eyepacs/{sha8}.parquet", b"predictions", meta={"kind": "predictions"})
    inputs = [corpus.manifest.digest]
    report = Manifest(stage="evaluate", version=1, key="d" * 64, inputs=inputs, section={}, outputs=[table])
    cache.commit(report)
    patients = {split: str(shard.patient[0]) for split in ("train", "test") for shard in corpus.of_split(split)[:1]}
    forget(own.store, patients=[patients["train"]])
    assert own.store.exists(table.name)
    inputs = [own.manifest.digest]
    cache.commit(report.model_copy(update={"inputs": inputs}))
    forget(own.store, patients=[patients["test"]])
    assert not own.store.exists(table.name)
    assert verify(own.store).defects == ()


def test_a_table_with_the_patient_s_rows_goes_and_does_not_come_back(
    own: IngestedStore, patient: str, tmp_path: Path, cluster: Cluster
) -> None:
    corpus = corpus_of(own.store)
    keys = [str(key) for shard in corpus.shards for key in shard.keys]
    path = tmp_path / "logits.parquet"
    pq.write_table(pa.table({"key": keys, "logits": [[2.0, 0.0, 0.0, 0.0, -1.0]] * len(keys)}), path)
    given = spec_of(own.store, path, teachers=[{"name": "file", "model": f"table:{path}"}])
    label_one(corpus, given, cluster)
    (copy,) = own.store.sizes("teachers/")
    assert forget(own.store, patients=[patient]).tables == [copy]
    more = given.model_copy(update={"views": given.views.model_copy(update={"count": 3})})
    with pytest.raises(UsageError, match=r"file: .*logits\.parquet has logits of 2 images that were erased"):
        label_one(corpus_of(own.store), more, cluster)
    assert not own.store.sizes("teachers/")


def test_verify_tells_of_an_erasure_that_was_interrupted(own: IngestedStore, patient: str) -> None:
    before = shutil.copytree(own.store.root, own.store.root.parent / "before")
    forget(own.store, patients=[patient])
    shutil.copytree(before, own.store.root, dirs_exist_ok=True)
    (defect,) = verify(own.store).defects
    assert (defect.kind, defect.object) == ("erasure", own.manifest.name)
    assert "2 images that were erased are in its catalog; start stillroom forget STORE" in defect.detail
    forget(own.store)
    assert verify(own.store).defects == ()


def test_a_damaged_tombstone_stops_an_ingest(own: IngestedStore, patient: str, cluster: Cluster) -> None:
    forget(own.store, patients=[patient])
    (name,) = own.store.sizes("forgotten/")
    own.flip(name, 30)
    with pytest.raises(CorruptError, match=r"forgotten/eyepacs/.*json: damaged"):
        run(spec(own.corpus, own.store), cluster)
    assert [defect.object for defect in verify(own.store).defects] == [name]


def test_gc_keeps_tombstones(own: IngestedStore, patient: str) -> None:
    forget(own.store, patients=[patient])
    age(own.store, 100)
    collect(own.store, delete=True)
    assert len(own.store.sizes("forgotten/")) == 1
    assert verify(own.store).defects == ()
