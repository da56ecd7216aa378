"""Teachers that are judged by the mean over several views of each image."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from models.augmentation.draws import draw
from models.augmentation.rendering import render, to_input
from models.statistics.metrics import probabilities
from tasks.data.corpus import Corpus, load_image
from tasks.data.trained_network import load_trained_network
from tasks.evaluate.scope import random_views
from tasks.evaluate.stage import Evaluation, evaluate
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

TRAINED = "teachers.0.train.steps=1"


def judged(corpus: Corpus, models: list[Manifest], spec: Spec, cluster: Cluster) -> Manifest:
    return evaluate(Context(corpus.store, cluster, spec.run), corpus, models, spec).manifest


def predicted(corpus: Corpus, report: Manifest, arm: str) -> dict[str, np.ndarray]:
    """Probabilities of the test images by key."""
    table = pq.read_table(io.BytesIO(corpus.store.get(report.output(kind="predictions").name))).to_pylist()
    return {row["key"]: np.array(row["prob"]) for row in table if row["arm"] == arm and row["split"] == "test"}


def by_hand(corpus: Corpus, model: Manifest, spec: Spec, views: int) -> dict[str, np.ndarray]:
    """Mean probabilities of the test images over the plain view and random ones, by key."""
    network = load_trained_network(corpus, model)
    recipe = random_views(corpus, spec, network.view_size)
    found = {}
    for shard in corpus.of_split("test"):
        for row, key in enumerate(map(str, shard.keys)):
            image = load_image(corpus.store, shard, row)
            shown = np.stack([render(image, recipe, draw(recipe, view, key)) for view in range(views + 1)])
            x = torch.from_numpy(to_input(shown, network.input_size, network.mean, network.std))
            with torch.inference_mode():
                found[key] = probabilities(corpus.task, network.module(x).numpy()).mean(axis=0)
    return found


@pytest.mark.parametrize("task", ["single", "multilabel"])
def test_a_teacher_is_judged_by_its_mean_probabilities(task: str, store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, task=task)
    models = [trained(corpus, "taught"), trained(corpus, "teacher:big")]
    spec = tiny_spec(store, TRAINED, "teachers.0.average=3", "evaluate.baselines=false")
    report = judged(corpus, models, spec, cluster)
    found, expected = predicted(corpus, report, "teacher:big"), by_hand(corpus, models[1], spec, 3)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-3, atol=1e-6)
    assert report.facts["arms"]["teacher:big"]["views"] == 4
    assert "views" not in report.facts["arms"]["taught"]
    assert "| teacher big, mean of 4 views |" in corpus.store.get(report.output(kind="report").name).decode()


def test_the_student_is_judged_by_the_plain_view_whatever_its_teacher_sees(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    models = [trained(corpus, "taught"), trained(corpus, "teacher:big")]
    spec = tiny_spec(store, TRAINED, "teachers.0.average=1", "evaluate.baselines=false")
    found = predicted(corpus, judged(corpus, models, spec, cluster), "taught")
    plain = by_hand(corpus, models[0], spec, 0)
    np.testing.assert_allclose([found[key] for key in plain], list(plain.values()), rtol=1e-3, atol=1e-6)


def test_views_enter_the_key_only_where_they_are_averaged(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    models = [trained(corpus, "taught"), trained(corpus, "teacher:big")]

    def key(*overrides: str) -> str:
        return Evaluation(Context(store), corpus, models, tiny_spec(store, TRAINED, *overrides)).key

    assert key("views.rotate=3") == key()
    assert len({key(), key("teachers.0.average=2"), key("teachers.0.average=2", "views.rotate=3")}) == 3
