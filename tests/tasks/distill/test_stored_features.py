"""Students learn from stored labels: no teacher is loaded, and none needs to be there any more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.storage.store import LocalStore
from tasks.distill.stage import distill
from tasks.label import label
from tasks.pipeline.context import Context
from tasks.spec import LossTerm, Spec
from tests.tasks.label.teachers import handle_of, save_weights, spec_of
from tests.tiny import tiny_corpus

TEACHES = ("tasks.label.label_shard", "tasks.label.predictor", "tasks.teachers.network", "models.engines")
LOSSES = {
    "cold": [LossTerm(loss="cross_entropy", where="labelled"), LossTerm(loss="kl")],
    "warm": [LossTerm(loss="kl", temperature=2.0)],
}


def loaded() -> list[str]:
    """What of the teachers' side this process has imported."""
    return [name for name in TEACHES if name in sys.modules]


@pytest.mark.parametrize("mix", ["none", "cutmix"])
def test_two_students_with_other_losses_share_one_set_of_labels(
    mix: str, store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store)
    weights = save_weights(tmp_path)
    train = {"steps": 6, "batch": 8}
    views = {"size": 32, "count": 2, "mix": mix}
    spec = spec_of(store, weights, views=views, student={"model": "micro_xs", "train": train})
    labels = label(Context(store, cluster, spec.run), corpus, handle_of(spec, corpus), spec)
    weights.unlink()
    before = store.sizes("labels/")
    keys = set()
    with Cluster(ClusterSection(workers=1)) as fresh:
        for losses in LOSSES.values():
            section = spec.student.model_copy(update={"loss": losses})
            own: Spec = spec.model_copy(update={"student": section})
            student = distill(Context(store, fresh, own.run), corpus, [labels.manifest], None, own)
            keys.add(student.manifest.key)
        assert fresh.client.run(loaded).popitem()[1] == []
    assert len(keys) == len(LOSSES)
    assert store.sizes("labels/") == before
