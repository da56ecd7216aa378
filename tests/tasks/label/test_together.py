"""Several teachers in one pass, teachers of every kind, and samples kept out, on a real cluster."""

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
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe, partners
from tasks.data.folds import fold_of
from tasks.data.soft_labels import SoftLabelReader, read_soft_labels
from tasks.label.stage import label_together
from tasks.pipeline.stage import run_stage
from tests.tasks.label.teachers import label_all, label_one, save_weights, spec_of, works_of
from tests.tiny import tiny_corpus

EAGER = {"engine": "eager", "precision": "float32", "batch": 5}


def python(name: str, function: str = "teacher", **options: Any) -> dict[str, Any]:
    model = f"python:tests.tasks.label.functions:{function}"
    return {"name": name, "model": model, "version": "1", "options": options}


def trained_with(store: LocalStore, weights: Path, fold: list[int]) -> Manifest:
    """Manifest of a fine-tuning, or of one without a fold, that ended with these weights."""
    name = f"models/{weights.stem}-{{sha8}}.safetensors"
    output = StageCache(store).put_object(name, weights.read_bytes(), meta={"kind": "model"})
    facts = {"fold": fold} if fold else {}
    return Manifest(stage="teach", version=1, key=output.id, inputs=[], section={}, outputs=[output], facts=facts)


def test_another_teacher_costs_only_its_own_views(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    one, two = (
        {"name": f"small-{seed}", "model": "micro_xs", "weights": str(save_weights(tmp_path, seed=seed))}
        for seed in (0, 1)
    )
    alone = label_all(corpus, spec_of(store, tmp_path, teachers=[one]), cluster)
    both = label_all(corpus, spec_of(store, tmp_path, teachers=[one, two]), cluster)
    assert [(result.made, result.total) for result in both] == [(0, 8), (8, 8)]
    assert both[0].manifest.digest == alone[0].manifest.digest


def test_two_names_of_one_network_are_run_once(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    weights = str(save_weights(tmp_path))
    sections = [{"name": name, "model": "micro_xs", "weights": weights} for name in ("one", "two")]
    both = label_all(corpus, spec_of(store, tmp_path, teachers=sections), cluster)
    assert [result.made for result in both] == [8, 0]
    assert [o.id for o in both[0].manifest.outputs] == [o.id for o in both[1].manifest.outputs]


def test_teachers_together_predict_what_each_predicts_alone(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store)
    sections = [
        {"name": "large", "model": "micro_xs", "weights": str(save_weights(tmp_path)), "size": 48},
        {"name": "small", "model": "micro_xs", "weights": str(save_weights(tmp_path, seed=1)), "size": 32},
    ]
    together = label_all(corpus, spec_of(store, tmp_path, teachers=sections), cluster)
    for number, section in enumerate(sections):
        other = LocalStore(tmp_path / section["name"])
        own = tiny_corpus(other)
        (alone,) = label_all(own, spec_of(other, tmp_path, teachers=[section]), cluster)
        expected = SoftLabelReader(own, [alone.manifest]).logits(0, 2)
        assert np.allclose(SoftLabelReader(corpus, [together[number].manifest]).logits(0, 2), expected, atol=1e-2)


def test_mixed_views_keep_their_partners(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, save_weights(tmp_path), views={"size": 32, "count": 1, "mix": "mixup"})
    (result,) = label_all(corpus, spec, cluster)
    recipe = ViewRecipe.from_values(spec.views.resolved("other").model_dump())
    reader = SoftLabelReader(corpus, [result.manifest])
    found = reader.rows(0, 1).partner
    assert found is not None
    assert found.tolist() == partners(recipe, 1, corpus.shards[0].keys).tolist()  # type: ignore[union-attr]
    assert reader.rows(0, 0).partner is None


def test_features_are_stored_beside_the_logits(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    teacher = {"name": "small", "model": "micro_xs", "weights": str(save_weights(tmp_path)), "features": "pooled"}
    (result,) = label_all(corpus, spec_of(store, tmp_path, teachers=[teacher]), cluster)
    features = SoftLabelReader(corpus, [result.manifest]).features(0, 1, 2)
    assert (features.dtype, features.shape[0]) == (np.dtype(np.float16), len(corpus.shards[1]))
    assert features.any(axis=1).all()


def test_a_table_labels_the_rows_that_it_has(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    keys = corpus.shards[0].keys.tolist()[1:]
    values = [[float(n), 0.0, 1.0] for n in range(len(keys))]
    pq.write_table(pa.table({"key": keys, "logits": values}), tmp_path / "logits.parquet")
    teacher = {"name": "table", "model": f"table:{tmp_path / 'logits.parquet'}"}
    (result,) = label_all(corpus, spec_of(store, tmp_path, teachers=[teacher]), cluster)
    rows = SoftLabelReader(corpus, [result.manifest]).rows(0, 2)
    assert rows.valid.tolist() == [False] + [True] * len(keys)
    assert rows.logits[0, 1:].tolist() == values


def test_labelled_images_are_labelled_out_of_fold(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    section = {"name": "small", "model": "micro_xs", "train": {"steps": 2, "batch": 4}, "folds": 2}
    spec = spec_of(store, tmp_path, teachers=[section])
    trained = [trained_with(store, save_weights(tmp_path, seed=n), fold) for n, fold in enumerate([[], [0, 2], [1, 2]])]
    result = label_one(corpus, spec, cluster, trained)
    found = SoftLabelReader(corpus, [result.manifest]).logits(0, 0)[0]
    alone = []
    for manifest in trained:
        weights = f"store:{manifest.output(kind='model').name}"
        teachers = [{"name": "alone", "model": "micro_xs", "weights": weights}]
        (one,) = label_all(corpus, spec_of(store, tmp_path, teachers=teachers), cluster)
        alone.append(SoftLabelReader(corpus, [one.manifest]).logits(0, 0)[0])
    folds = fold_of(corpus, 2)[0]
    assert set(folds.tolist()) == {0, 1}
    expected = np.array([alone[fold + 1][row] for row, fold in enumerate(folds)])
    assert np.allclose(found, expected, atol=1e-2)
    assert not np.allclose(found, alone[0], atol=1e-2)


def test_an_image_that_a_teacher_fails_on_is_kept_out_alone(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, black=["train-0003"])
    (result,) = label_all(corpus, spec_of(store, tmp_path, teachers=[python("picky", "picky")]), cluster)
    assert [(q.source, q.reason) for q in result.manifest.quarantine] == [
        ("train-0003", "teacher picky: ValueError: a black picture")
    ]
    assert np.flatnonzero(~SoftLabelReader(corpus, [result.manifest]).rows(0, 0).valid).tolist() == [3]


def test_what_was_kept_out_is_retried_on_request(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, black=["train-0003"])
    teachers = [python("picky", "picky")]
    label_all(corpus, spec_of(store, tmp_path, teachers=teachers), cluster)
    (found,) = label_all(corpus, spec_of(store, tmp_path, teachers=teachers), cluster)
    (again,) = label_all(
        corpus, spec_of(store, tmp_path, teachers=teachers, run={"device": "cpu", "retry_quarantined": True}), cluster
    )
    assert (found.made, again.made) == (0, 3)


def test_a_spent_budget_ends_the_stage(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, black=["train-0003", "train-0005"])
    section = {"device": "cpu", "label": {"max_bad": 1, "max_bad_share": 0.0}}
    spec = spec_of(store, tmp_path, teachers=[python("picky", "picky")], run=section)
    with pytest.raises(BudgetError, match=r"2 of 48 samples .* more than the 1 .* train-0003: teacher picky"):
        label_all(corpus, spec, cluster)


def test_a_teacher_that_always_fails_is_an_error_after_the_others_shards(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=0, black=[f"train-{n:04d}" for n in range(8)])
    spec = spec_of(store, tmp_path, teachers=[python("picky", "picky")])
    with pytest.raises(PermanentError, match=r"teacher picky fails on each of 8 images from train-0000"):
        label_all(corpus, spec, cluster)
    assert len(store.sizes("units/label/")) == 2


def test_running_shards_stop_on_request(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, train=64, shard_size=64)
    spec = spec_of(store, tmp_path, teachers=[python("slow", busy=0.2)], views={"size": 32, "count": 0})
    wanted = threading.Event()
    timer = threading.Timer(1.0, wanted.set)
    timer.start()
    with pytest.raises(CancelledError):
        label_all(corpus, spec, cluster, stop=wanted.is_set)
    timer.join()
    # The largest shard alone would have taken 13 seconds.
    assert cluster.client.submit(int, 1, pure=False).result(timeout=15) == 1
    assert len(store.sizes("units/label/")) < 3


def test_a_choice_of_engine_is_remembered_and_stands_in_the_manifest(
    store: LocalStore, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, save_weights(tmp_path), run={"device": "cpu"})
    (result,) = label_all(corpus, spec, cluster)
    (name,) = store.sizes("engines/")
    choice = json.loads(store.get(name))["choice"]
    (engine,) = result.manifest.facts["engines"]
    assert (engine["engine"], engine["batch"]) == (choice["engine"], choice["batch"])


def test_the_expected_cost_is_announced_before_the_work(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    weights = save_weights(tmp_path)
    messages: list[tuple[str, int]] = []
    (result,) = label_all(
        corpus,
        spec_of(store, weights),
        cluster,
        message=lambda text: messages.append((text, len(store.sizes("labels/")))),
    )
    size = sum(output.bytes for output in result.manifest.outputs) / 1e6
    assert messages == [
        (f"teacher small is to make 112 predictions in 8 files, {size:.1f} MB, on eager-float32 in batches of 5", 0)
    ]


def test_the_batch_changes_no_key(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    weights = save_weights(tmp_path)
    small, large = (
        spec_of(store, weights, run={"device": "cpu", "label": {**EAGER, "batch": batch}}) for batch in (2, 16)
    )
    label_all(corpus, small, cluster)
    assert label_all(corpus, large, cluster)[0].cached


def test_every_soft_label_file_agrees_with_its_manifest(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, black=["train-0003"])
    (result,) = label_all(corpus, spec_of(store, tmp_path, teachers=[python("picky", "picky")]), cluster)
    for output in result.manifest.outputs:
        assert read_soft_labels(store.get(output.name)).invalid == output.meta["invalid"]


def test_a_teacher_that_fails_leaves_the_others_alone(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=0, black=[f"train-{n:04d}" for n in range(8)])
    spec = spec_of(store, tmp_path, teachers=[python("good", busy=0.0), python("picky", "picky")])
    good, picky = works_of(corpus, spec, cluster)
    with pytest.raises(PermanentError, match="teacher picky fails on each"):
        label_together([picky, good])
    result = run_stage(good)
    with pytest.raises(PermanentError, match="teacher picky fails on each"):
        run_stage(picky)
    again = works_of(corpus, spec, cluster)[0].lookup()
    assert again is not None
    assert again.digest == result.manifest.digest


def test_the_card_of_all_teachers_is_shown_by_the_last(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, tmp_path, teachers=[python(name, busy=0.0, classes=3) for name in ("one", "two")])
    one, two = works_of(corpus, spec, cluster)
    label_together([two, one])
    assert two.artifacts(run_stage(two), 1.0) == []
    (card,) = one.artifacts(run_stage(one), 2.0)
    assert card.key == "label-card-tiny"
    assert "| one | 1 |" in str(card.content)
    cached = works_of(corpus, spec, cluster)
    label_together(cached)
    assert [work.artifacts(run_stage(work), 1.0) for work in cached] == [[], []]
