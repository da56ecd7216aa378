"""Several teachers, teachers of every kind, and what is kept out, through the stage on a real cluster."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.compute.cluster import Cluster
from infra.errors import BudgetError, CancelledError, PermanentError
from infra.storage.store import LocalStore
from models.augmentation.draws import Recipe, partners
from tasks.data.corpus import Corpus
from tasks.data.folds import fold_of
from tasks.data.soft_label_reader import Teaching
from tasks.data.soft_labels import read_soft_labels
from tasks.distill.stage import teach
from tasks.label import label, teacher_handle
from tasks.pipeline.result import StageResult
from tasks.spec import Spec
from tests.tasks.label.teachers import save_weights, spec_of
from tests.tiny import tiny_corpus

EAGER = {"engine": "eager", "precision": "float32", "batch": 5}


def python(name: str, function: str = "teacher", **options: Any) -> dict[str, Any]:
    model = f"python:tests.tasks.label.deadly:{function}"
    return {"name": name, "model": model, "version": "1", "options": options}


def run(corpus: Corpus, spec: Spec, cluster: Cluster, **rest: Any) -> list[StageResult]:
    handles = [teacher_handle(section, [], corpus, corpus.store) for section in spec.teachers]
    return label(corpus, handles, spec, corpus.store, cluster, **rest)


def test_another_teacher_costs_only_its_own_views(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    one, two = (
        {"name": f"small-{seed}", "model": "micro_xs", "weights": str(save_weights(tmp_path, seed=seed))}
        for seed in (0, 1)
    )
    alone = run(corpus, spec_of(store, tmp_path, teachers=[one]), cluster)
    both = run(corpus, spec_of(store, tmp_path, teachers=[one, two]), cluster)
    assert [(result.made, result.total) for result in both] == [(0, 8), (8, 8)]
    assert both[0].manifest.digest == alone[0].manifest.digest


def test_two_names_of_one_teacher_are_asked_once(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    weights = str(save_weights(tmp_path))
    sections = [{"name": name, "model": "micro_xs", "weights": weights} for name in ("one", "two")]
    both = run(corpus, spec_of(store, tmp_path, teachers=sections), cluster)
    assert [result.made for result in both] == [8, 0]
    assert [o.id for o in both[0].manifest.outputs] == [o.id for o in both[1].manifest.outputs]


def test_teachers_asked_together_say_what_each_says_alone(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    sections = [
        {"name": "large", "model": "micro_xs", "weights": str(save_weights(tmp_path)), "size": 48},
        {"name": "small", "model": "micro_xs", "weights": str(save_weights(tmp_path, seed=1)), "size": 32},
    ]
    together = run(corpus, spec_of(store, tmp_path, teachers=sections), cluster)
    for number, section in enumerate(sections):
        other = LocalStore(tmp_path / section["name"])
        own = tiny_corpus(other)
        (alone,) = run(own, spec_of(other, tmp_path, teachers=[section]), cluster)
        expected = Teaching(own, [alone.manifest]).logits(0, 2)
        assert np.allclose(Teaching(corpus, [together[number].manifest]).logits(0, 2), expected, atol=1e-2)


def test_mixed_views_keep_their_partners(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, save_weights(tmp_path), views={"size": 32, "count": 1, "mix": "mixup"})
    (result,) = run(corpus, spec, cluster)
    recipe = Recipe.from_values(spec.views.resolved("other").model_dump())
    teaching = Teaching(corpus, [result.manifest])
    found = teaching.rows(0, 1).partner
    assert found is not None
    assert found.tolist() == partners(recipe, 1, corpus.shards[0].keys).tolist()  # type: ignore[union-attr]
    assert teaching.rows(0, 0).partner is None


def test_features_are_stored_beside_the_logits(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    teacher = {"name": "small", "model": "micro_xs", "weights": str(save_weights(tmp_path)), "features": "pooled"}
    (result,) = run(corpus, spec_of(store, tmp_path, teachers=[teacher]), cluster)
    features = Teaching(corpus, [result.manifest]).features(0, 1, 2)
    assert (features.dtype, features.shape[0]) == (np.dtype(np.float16), len(corpus.shards[1]))
    assert features.any(axis=1).all()


def test_a_table_teaches_the_rows_that_it_has(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    keys = corpus.shards[0].keys.tolist()[1:]
    values = [[float(n), 0.0, 1.0] for n in range(len(keys))]
    pq.write_table(pa.table({"key": keys, "logits": values}), tmp_path / "said.parquet")
    teacher = {"name": "table", "model": f"table:{tmp_path / 'said.parquet'}"}
    (result,) = run(corpus, spec_of(store, tmp_path, teachers=[teacher]), cluster)
    rows = Teaching(corpus, [result.manifest]).rows(0, 2)
    assert rows.valid.tolist() == [False] + [True] * len(keys)
    assert rows.logits[0, 1:].tolist() == values


def test_labelled_images_are_labelled_out_of_fold(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    section = {"name": "small", "model": "micro_xs", "train": {"steps": 2, "batch": 4}, "folds": 2}
    spec = spec_of(store, tmp_path, teachers=[section])
    trained = [teach(corpus, spec.teachers[0], spec, store, cluster, fold=f).manifest for f in (None, (0, 2), (1, 2))]
    handle = teacher_handle(spec.teachers[0], trained, corpus, store)
    (result,) = label(corpus, [handle], spec, store, cluster)
    found = Teaching(corpus, [result.manifest]).logits(0, 0)[0]
    alone = []
    for manifest in trained:
        weights = f"store:{manifest.output(kind='model').name}"
        teachers = [{"name": "alone", "model": "micro_xs", "weights": weights}]
        (one,) = run(corpus, spec_of(store, tmp_path, teachers=teachers), cluster)
        alone.append(Teaching(corpus, [one.manifest]).logits(0, 0)[0])
    folds = fold_of(corpus, 2)[0]
    assert set(folds.tolist()) == {0, 1}
    expected = np.array([alone[fold + 1][row] for row, fold in enumerate(folds)])
    assert np.allclose(found, expected, atol=1e-2)
    assert not np.allclose(found, alone[0], atol=1e-2)


def test_an_image_that_a_teacher_fails_on_is_kept_out_alone(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, black=["train-0003"])
    (result,) = run(corpus, spec_of(store, tmp_path, teachers=[python("picky", "picky")]), cluster)
    assert [(q.source, q.reason) for q in result.manifest.quarantine] == [
        ("train-0003", "teacher picky: ValueError: a black picture")
    ]
    assert np.flatnonzero(~Teaching(corpus, [result.manifest]).rows(0, 0).valid).tolist() == [3]


def test_what_was_kept_out_is_asked_again_on_request(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, black=["train-0003"])
    teachers = [python("picky", "picky")]
    run(corpus, spec_of(store, tmp_path, teachers=teachers), cluster)
    (found,) = run(corpus, spec_of(store, tmp_path, teachers=teachers), cluster)
    (again,) = run(
        corpus, spec_of(store, tmp_path, teachers=teachers, run={"device": "cpu", "retry_quarantined": True}), cluster
    )
    assert (found.made, again.made) == (0, 3)


def test_a_spent_budget_ends_the_stage(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, black=["train-0003", "train-0005"])
    section = {"device": "cpu", "label": {"max_bad": 1, "max_bad_share": 0.0}}
    spec = spec_of(store, tmp_path, teachers=[python("picky", "picky")], run=section)
    with pytest.raises(BudgetError, match=r"2 of 48 samples .* more than the 1 .* train-0003: teacher picky"):
        run(corpus, spec, cluster)


def test_a_teacher_that_always_fails_is_an_error_after_the_others_shards(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=0, black=[f"train-{n:04d}" for n in range(8)])
    spec = spec_of(store, tmp_path, teachers=[python("picky", "picky")])
    with pytest.raises(PermanentError, match=r"teacher picky fails on each of 8 images from train-0000"):
        run(corpus, spec, cluster)
    assert len(store.sizes("units/label/")) == 2


def test_running_shards_hear_a_request_to_stop(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, train=64, shard_size=64)
    spec = spec_of(store, tmp_path, teachers=[python("slow", busy=0.2)], views={"size": 32, "count": 0})
    asked = threading.Event()
    timer = threading.Timer(1.0, asked.set)
    timer.start()
    with pytest.raises(CancelledError):
        run(corpus, spec, cluster, stop=asked.is_set)
    timer.join()
    # The largest shard alone would have taken 13 seconds.
    assert cluster.client.submit(int, 1, pure=False).result(timeout=15) == 1
    assert len(store.sizes("units/label/")) < 3


def test_a_choice_of_engine_is_remembered_and_stands_in_the_manifest(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, save_weights(tmp_path), run={"device": "cpu"})
    (result,) = run(corpus, spec, cluster)
    (name,) = store.sizes("engines/")
    choice = json.loads(store.get(name))["choice"]
    (engine,) = result.manifest.facts["engines"]
    assert (engine["engine"], engine["batch"]) == (choice["engine"], choice["batch"])


def test_what_is_owed_is_said_before_it_is_made(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    weights = save_weights(tmp_path)
    told: list[tuple[str, int]] = []
    (result,) = run(
        corpus, spec_of(store, weights), cluster, say=lambda text: told.append((text, len(store.sizes("labels/"))))
    )
    size = sum(output.bytes for output in result.manifest.outputs) / 1e6
    assert told == [(f"teacher small owes 112 answers in 8 files, {size:.1f} MB, on eager-float32 in batches of 5", 0)]


def test_the_batch_changes_no_key(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    weights = save_weights(tmp_path)
    small, large = (
        spec_of(store, weights, run={"device": "cpu", "label": {**EAGER, "batch": batch}}) for batch in (2, 16)
    )
    run(corpus, small, cluster)
    assert run(corpus, large, cluster)[0].cached


def test_every_soft_label_file_says_what_its_manifest_says(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, black=["train-0003"])
    (result,) = run(corpus, spec_of(store, tmp_path, teachers=[python("picky", "picky")]), cluster)
    for output in result.manifest.outputs:
        assert read_soft_labels(store.get(output.name)).invalid == output.meta["invalid"]
