"""The label stage on a real cluster of two worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from infra.compute.cluster import Cluster
from infra.errors import CancelledError, CorruptError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe, draw
from models.augmentation.rendering import decode, render, to_input
from models.networks.build import build
from tasks.data.catalog import CATALOG, to_parquet
from tasks.data.corpus import Corpus, read_image
from tasks.data.soft_labels import SoftLabelReader
from tests.tasks.label.teachers import label_one, save_weights, spec_of, works_of
from tests.tiny import tiny_corpus

VIEWS = {"size": 32, "count": 2}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_weights(tmp_path)


def names(manifest: Manifest) -> set[str]:
    return {output.name for output in manifest.outputs}


def test_every_missing_view_is_labelled_once(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    seen: list[tuple[int, int]] = []
    result = label_one(corpus, spec, cluster, progress=lambda *at: seen.append(at))
    views = {(o.meta["split"], o.meta["shard"], o.meta["view"]) for o in result.manifest.outputs}
    train = {("train", shard, view) for shard in (0, 1) for view in (0, 1, 2)}
    assert views == train | {("val", 2, 0), ("test", 3, 0)}
    assert (result.made, result.total) == (8, 8)
    assert seen[0] == (0, 8)
    assert seen[-1] == (8, 8)
    assert result.manifest.facts["rows"] == 3 * 32 + 16
    assert result.manifest.facts["invalid"] == 0


def test_views_that_select_averages_are_labelled_of_validation_images_too(
    store: LocalStore, cluster: Cluster, weights: Path
) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store, weights)
    more = spec.model_copy(update={"select": spec.select.model_copy(update={"views": 1})})
    plain = label_one(corpus, spec, cluster).manifest
    result = label_one(corpus, more, cluster)
    assert [o.meta["view"] for o in result.manifest.outputs_where(kind="soft", split="val")] == [0, 1]
    assert (result.made, result.total) == (1, 9)
    assert result.manifest.key != plain.key


def test_stored_logits_are_the_teachers_own(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    result = label_one(corpus, spec, cluster)
    recipe = ViewRecipe.from_values(spec.views.resolved("other").model_dump())
    built = build("micro_xs", num_classes=3, weights=weights)
    shard = corpus.shards[1]
    images = [decode(read_image(store, shard, row)) for row in range(len(shard))]
    for view in (0, 2):
        views = np.stack(
            [render(i, recipe, draw(recipe, view, str(k))) for i, k in zip(images, shard.keys, strict=True)]
        )
        with torch.inference_mode():
            expected = built.module(torch.from_numpy(to_input(views, 32, built.mean, built.std)))
        found = SoftLabelReader(corpus, [result.manifest]).logits(1, view)
        assert np.allclose(found[0], expected.numpy(), atol=5e-3)


def test_cached_line_needs_neither_torch_nor_a_cluster(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    first = label_one(corpus, spec, cluster)
    script = f"""
import sys
from pathlib import Path
from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.label import label, teacher_handle
from tasks.pipeline.context import Context
from tasks.spec import Spec
store = LocalStore(Path({store.url!r}))
corpus = Corpus(store, Manifest.from_bytes(store.get({corpus.manifest.name!r})))
spec = Spec.model_validate_json({spec.model_dump_json(by_alias=True)!r})
handle = teacher_handle(spec.teachers[0], [], corpus, store)
result = label(Context(store, Cluster(spec.run.cluster), spec.run), corpus, handle, spec)
print(result.made, result.manifest.digest, sorted({{"torch", "distributed", "timm"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split(maxsplit=2) == ["0", first.manifest.digest, "[]\n"], done.stderr


def test_deleted_file_is_made_again_alone(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    first = label_one(corpus, spec, cluster)
    lost = first.manifest.output(shard=1, view=2)
    store.delete(lost.name)
    again = label_one(corpus, spec, cluster)
    assert again.made == 1
    assert store.exists(lost.name)
    assert names(again.manifest) == names(first.manifest)


def test_verify_makes_a_damaged_file_again(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    first = label_one(corpus, spec, cluster)
    broken = first.manifest.output(shard=2, view=0)
    good = store.get(broken.name)
    store.put(broken.name, good[:-1] + bytes([good[-1] ^ 1]))
    assert label_one(corpus, spec, cluster).made == 0
    strict = spec_of(
        store,
        weights,
        run={"device": "cpu", "label": {"engine": "eager", "precision": "float32", "batch": 5}, "verify": True},
    )
    assert label_one(corpus, strict, cluster).made == 1
    assert store.get(broken.name) == good


def test_interrupted_stage_keeps_what_was_recorded(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    first = label_one(corpus, spec, cluster)
    store.delete(first.manifest.name)
    store.delete(f"units/label/{first.manifest.output(shard=0, view=1).unit}.json")
    again = label_one(corpus, spec, cluster)
    assert again.made == 1
    assert again.manifest.digest == first.manifest.digest


def test_new_shard_leaves_the_others_alone(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    spec = spec_of(store, weights)
    few = tiny_corpus(store, train=32, unlabelled=0)
    more = tiny_corpus(store, train=48, unlabelled=0)
    before = label_one(few, spec, cluster)
    after = label_one(more, spec, cluster)
    assert after.made == 3
    assert names(before.manifest) < names(after.manifest)


def test_more_views_cost_only_those_views(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    two, three = (spec_of(store, weights, views={"size": 32, "count": count}) for count in (2, 3))
    label_one(corpus, two, cluster)
    assert label_one(corpus, three, cluster).made == 2


def test_other_augmentation_keeps_the_plain_views(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec, turned = spec_of(store, weights), spec_of(store, weights, views={**VIEWS, "rotate": 90})
    label_one(corpus, spec, cluster)
    assert label_one(corpus, turned, cluster).made == 4


def test_corrected_label_costs_no_teacher_time(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    label_one(corpus, spec, cluster)
    rows = corpus.catalog.to_pylist()
    rows[0]["label"] = 2
    data = to_parquet(pa.Table.from_pylist(rows, schema=CATALOG), CATALOG)
    catalog = StageCache(store).put_object("catalogs/tiny/{sha}.parquet", data, meta={"kind": "catalog"})
    outputs = [catalog if o.meta["kind"] == "catalog" else o for o in corpus.manifest.outputs]
    corrected = Corpus(store, corpus.manifest.model_copy(update={"outputs": outputs, "key": "1" * 64}))
    assert label_one(corrected, spec, cluster).cached


def test_damaged_image_names_shard_and_key(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    shard = corpus.shards[3]
    data = bytearray(store.get(shard.output.name))
    data[shard.offsets[4] + 100] ^= 0xFF
    store.put(shard.output.name, bytes(data))
    with pytest.raises(CorruptError, match=rf"{shard.output.name}.*{shard.keys[4]}"):
        label_one(corpus, spec, cluster)


def test_head_of_other_classes_asks_for_training(store: LocalStore, cluster: Cluster, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, save_weights(tmp_path, classes=5))
    with pytest.raises(UsageError, match=r"teacher small: the head of its weights .* add `train:`"):
        label_one(corpus, spec, cluster)


def test_unknown_model_names_the_nearest(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    teachers = [{"name": "small", "model": "micro_sx", "weights": str(weights)}]
    spec = spec_of(store, weights, teachers=teachers)
    with pytest.raises(UsageError, match="teacher small: there is no model 'micro_sx'; did you mean micro_xs"):
        label_one(corpus, spec, cluster)


def test_gpu_that_no_worker_offers(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    if cluster.offers("GPU"):
        pytest.skip("this machine has a GPU")
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights, run={"device": "cuda"})
    with pytest.raises(UsageError, match="no Dask worker offers the resource GPU"):
        label_one(corpus, spec, cluster)


def test_stop_is_heard(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_of(store, weights)
    with pytest.raises(CancelledError):
        label_one(corpus, spec, cluster, stop=lambda: True)


def test_missing_units_are_counted_without_a_cluster(store: LocalStore, cluster: Cluster, weights: Path) -> None:
    corpus = tiny_corpus(store)
    two, three = (spec_of(store, weights, views={"size": 32, "count": count}) for count in (2, 3))
    label_one(corpus, two, cluster)
    before = store.sizes("")
    (work,) = works_of(corpus, three, Cluster(three.run.cluster))
    assert work.lookup() is None
    assert work.missing() == (8, 10)
    assert store.sizes("") == before
