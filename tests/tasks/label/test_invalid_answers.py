"""Teachers that say nothing, or probabilities: their labels are no success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.compute.cluster import Cluster
from infra.errors import BudgetError, PermanentError, UsageError
from infra.storage.store import LocalStore
from models.statistics.metrics import probabilities
from tasks.data.soft_labels import SoftLabelReader
from tests.tasks.label.teachers import label_all, save_weights, spec_of
from tests.tiny import tiny_corpus

STRICT = {"device": "cpu", "label": {"max_bad": 1, "max_bad_share": 0.0}}


def python(function: str, **rest: Any) -> dict[str, Any]:
    return {"name": "code", "model": f"python:tests.tasks.label.functions:{function}", "version": "1", **rest}


def test_answers_that_are_not_finite_count_against_the_budget(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, black=["train-0003", "train-0005"])
    spec = spec_of(store, tmp_path, teachers=[python("silent_on_black")], run=STRICT)
    expected = r"2 of 48 samples .* more than the 1 .* train-0003: teacher code: it says NaN"
    with pytest.raises(BudgetError, match=expected):
        label_all(corpus, spec, cluster)
    # What the first run left in the store is no way around the budget.
    with pytest.raises(BudgetError, match=expected):
        label_all(corpus, spec, cluster)


def test_an_answer_that_is_not_finite_is_kept_out_alone(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8, black=["train-0003"])
    (result,) = label_all(corpus, spec_of(store, tmp_path, teachers=[python("silent_on_black")]), cluster)
    assert [q.source for q in result.manifest.quarantine] == ["train-0003"]
    assert np.flatnonzero(~SoftLabelReader(corpus, [result.manifest]).rows(0, 0).valid).tolist() == [3]


def test_a_teacher_without_any_answer_fails_however_large_the_budget(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    names = [f"train-{number:04d}" for number in range(8)]
    corpus = tiny_corpus(store, train=8, unlabelled=0, val=4, test=4, black=names)
    spec = spec_of(store, tmp_path, teachers=[python("silent_on_black")])
    with pytest.raises(PermanentError, match="teacher code has no valid label of any training image; train-0000: "):
        label_all(corpus, spec, cluster)
    assert not store.sizes("manifests/label/")


def test_probabilities_of_a_function_are_refused_or_turned_into_logits(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8, val=4, test=4)
    with pytest.raises(UsageError, match=r"teacher code: .* looks like probabilities.*Set outputs: probabilities"):
        label_all(corpus, spec_of(store, tmp_path, teachers=[python("soft")]), cluster)
    said = {}
    for name, section in (("soft", python("soft", outputs="probabilities")), ("logits", python("teacher"))):
        (result,) = label_all(corpus, spec_of(store, tmp_path, teachers=[section]), cluster)
        said[name] = probabilities("single", SoftLabelReader(corpus, [result.manifest]).logits(0, 0)[0])
    assert np.allclose(said["soft"], said["logits"], atol=5e-3)


def test_weights_with_nan_are_named_before_an_image_is_read(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    weights = save_weights(tmp_path)
    state = load_file(weights)
    state["stem.0.0.weight"].view(-1)[0] = torch.nan
    save_file(state, weights)
    with pytest.raises(UsageError, match=r"teacher small: .*1 of \d+ tensors hold NaN .*stem\.0\.0\.weight"):
        label_all(corpus, spec_of(store, weights), cluster)
    assert not store.sizes("labels/")
