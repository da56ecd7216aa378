"""Several teachers are also judged together: their mean is what a student learns from."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


def report(corpus: Corpus, teachers: list[str], store: LocalStore, cluster: Cluster) -> Manifest:
    spec = tiny_spec(store, "evaluate.baselines=false")
    models = [trained(corpus, "taught"), *(trained(corpus, f"teacher:{name}", len(name)) for name in teachers)]
    return evaluate(Context(store, cluster, spec.run), corpus, models, spec).manifest


def test_teachers_are_judged_by_their_mean_too(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    manifest = report(corpus, ["big", "small"], store, cluster)
    table = pq.read_table(io.BytesIO(store.get(manifest.output(kind="predictions").name))).to_pylist()
    found = {
        arm: np.array([row["prob"] for row in table if row["arm"] == arm]) for arm in {row["arm"] for row in table}
    }
    np.testing.assert_allclose(found["teachers"], (found["teacher:big"] + found["teacher:small"]) / 2, atol=1e-6)
    assert "| mean of the teachers |" in store.get(manifest.output(kind="report").name).decode()


def test_one_teacher_has_no_mean_beside_it(store: LocalStore, cluster: Cluster) -> None:
    assert "teachers" not in report(tiny_corpus(store), ["big"], store, cluster).facts["arms"]
