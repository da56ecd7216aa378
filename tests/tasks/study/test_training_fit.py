"""What students say of training images, and what their networks cost, by real workers on a tiny corpus."""

from __future__ import annotations

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.pipeline.context import Context
from tasks.spec import RunSection
from tasks.spec.labels import LabelsSection
from tasks.study.design import Cell
from tasks.study.networks import network_costs
from tasks.study.training_fit import STAGE, Asked, asked_of, training_predictions
from tasks.subset.stage import subset
from tests.tasks.trained import fitted, trained
from tests.tiny import tiny_corpus


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return tiny_corpus(LocalStore(tmp_path_factory.mktemp("fit") / "store"))


def context_of(corpus: Corpus, cluster: Cluster) -> Context:
    return Context(corpus.store, cluster, RunSection(device="cpu"))


def labels_of(asked: Asked) -> list[int]:
    return [int(label) for label in asked.label]


def test_a_student_is_asked_about_its_training_images(whole: Corpus, cluster: Cluster) -> None:
    model, asked = fitted(whole, "taught"), asked_of(whole)
    found = training_predictions(context_of(whole, cluster), [(model, asked)])[model.key]
    assert found.shape == (24, 3)
    assert found.sum(axis=1) == pytest.approx(np.ones(24))
    # Least squares on these very images.
    assert (found.argmax(axis=1) == asked.label).mean() > 0.9


def test_of_many_images_some_spread_over_all_are_asked(whole: Corpus) -> None:
    few, every = asked_of(whole, images=5), asked_of(whole)
    assert len(few.rows) == 5
    assert (few.rows[0], few.rows[-1]) == (every.rows[0], every.rows[-1])


def test_a_fold_asks_about_the_images_that_train_in_it(whole: Corpus, cluster: Cluster) -> None:
    context = context_of(whole, cluster)
    fold = Corpus(whole.store, subset(context, whole.manifest, LabelsSection(folds=2, fold=1)).manifest)
    model, asked = trained(fold, "taught"), asked_of(fold)
    found = training_predictions(context, [(model, asked)])[model.key]
    assert len(found) == sum(int(shard.labelled.sum()) for shard in fold.of_split("train"))
    assert labels_of(asked) == [int(y) for s in fold.of_split("train") for y in s.label[s.labelled]]


def test_what_was_asked_once_is_found(whole: Corpus, cluster: Cluster) -> None:
    context, pair = context_of(whole, cluster), (trained(whole, "labels"), asked_of(whole))
    first = training_predictions(context, [pair])
    units = whole.store.sizes(f"units/{STAGE}/")
    again = training_predictions(Context(whole.store, run=RunSection(device="cpu")), [pair])
    assert np.array_equal(first[pair[0].key], again[pair[0].key])
    assert whole.store.sizes(f"units/{STAGE}/") == units


def test_arms_of_one_network_share_one_measurement(whole: Corpus) -> None:
    cells = [Cell("all", "taught"), Cell("all", "labels")]
    found = network_costs(
        whole.store, dict(zip(cells, (trained(whole, "taught"), trained(whole, "labels")), strict=True)), seconds=0.01
    )
    one, other = (found[cell] for cell in cells)
    assert one == other
    assert one.bytes > 10_000
    assert one.latency_ms is not None
    assert one.latency_ms > 0
