"""What teachers bring to a batch: inputs of their own, stored features, and the places of samples for memory banks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.draws import NO_PARTNER, ViewRecipe, partners
from models.augmentation.rendering import to_input
from models.augmentation.view_numbers import FIRST_UNSTORED
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import SoftLabelReader, read_soft_labels, write_soft_labels
from tasks.distill.batches import Input, TrainData
from tasks.distill.training_job import Sampling
from tests.tiny import tiny_corpus, tiny_labels

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
OWN = Input(32, MEAN, STD)
PLAIN = ViewRecipe(32)


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    """24 labelled training images and 8 unlabelled ones in shards of 16."""
    return tiny_corpus(store)


def flat(shard: Shard, view: int) -> np.ndarray:
    return np.full((len(shard), 3), view, dtype=np.float32)


def feature_of(key: str, view: int) -> float:
    return int(key[-4:]) + 100.0 * view


def with_features(corpus: Corpus, manifest: Manifest, shape: tuple[int, ...]) -> Manifest:
    """The same labels with features that tell key and view."""
    cache, outputs = StageCache(corpus.store), []
    for output in manifest.outputs:
        shard = corpus.shards[output.meta["shard"]]
        values = np.array([feature_of(str(key), output.meta["view"]) for key in shard.keys], dtype=np.float32)
        features = np.broadcast_to(values.reshape(-1, *(1 for _ in shape)), (len(shard), *shape))
        soft = replace(read_soft_labels(corpus.store.get(output.name)), features=features)
        name = f"labels/features/{output.id[:16]}-{{sha8}}.safetensors"
        outputs.append(
            cache.put_object(name, write_soft_labels(soft), id=output.id, unit=output.id, meta=dict(output.meta))
        )
    return manifest.model_copy(update={"outputs": outputs})


def data_of(corpus: Corpus, recipe: ViewRecipe, teaching: SoftLabelReader | None, **kind: Any) -> TrainData:
    kind = {"seed": 0, "batch": 16, "size": 32, "mean": MEAN, "std": STD, **kind}
    return TrainData(corpus, recipe, 2, teaching, kind.pop("weights", {}), **kind)


def test_online_teachers_see_the_student_s_pictures_at_their_own_size(corpus: Corpus) -> None:
    other = Input(24, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    data = data_of(corpus, ViewRecipe(32, mix="cutmix"), None, online=[OWN, other, other], plain=False)
    batch = data.load(0)
    x, first, second = batch.teacher_x[0], *batch.teacher_x[1:]
    assert x is batch.x_B3HW
    assert second is first
    mean, std = (np.array(values)[:, None, None] for values in (MEAN, STD))
    pictures = np.rint((x.numpy() * std + mean) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    expected = to_input(np.ascontiguousarray(pictures), 24, other.mean, other.std)
    assert np.array_equal(first.numpy(), expected)


def test_online_teachers_bring_no_logits_and_take_the_unlabelled_along(corpus: Corpus) -> None:
    data = data_of(corpus, PLAIN, None, online=[OWN])
    assert data.samples == 32
    targets = data.load(0).targets
    assert targets.teacher_KBC is None
    assert not targets.valid_B.any()
    assert (data.load(0).targets.label_B < 0).any() or (data.load(1).targets.label_B < 0).any()


def test_online_training_sees_new_views_between_plain_ones(corpus: Corpus) -> None:
    data = data_of(corpus, PLAIN, None, online=[OWN], batch=32)
    seen = [dict(zip(b.keys, b.x_B3HW, strict=True)) for b in map(data.load, range(6))]
    # The first epoch and the fourth show the plain view.
    assert len({epoch["train-0003"].numpy().tobytes() for epoch in seen}) == 5


def test_online_partners_are_drawn_among_all_that_train(corpus: Corpus) -> None:
    recipe = ViewRecipe(32, mix="mixup")
    data = data_of(corpus, recipe, None, online=[OWN], batch=31, weights={"train-0005": 0.0}, plain=False)
    batch = data.load(0)
    targets = batch.targets
    assert targets.partner_label_B is not None
    seen = dict(zip(batch.keys, targets.partner_label_B.tolist(), strict=True))
    assert len(seen) == 31
    for shard in corpus.of_split("train"):
        rows = np.flatnonzero(shard.keys != "train-0005")
        found = partners(recipe, FIRST_UNSTORED, shard.keys[rows])
        assert found is not None
        for row, other in zip(rows.tolist(), found.tolist(), strict=True):
            assert seen[str(shard.keys[row])] == (-1 if other == NO_PARTNER else shard.label[rows[other]])


@pytest.mark.parametrize("shape", [(5,), (2, 3, 3)])
def test_stored_features_stand_under_their_tap_beside_their_rows(corpus: Corpus, shape: tuple[int, ...]) -> None:
    bare, rich = (tiny_labels(corpus, name, flat, views=2) for name in ("bare", "rich"))
    teaching = SoftLabelReader(corpus, [bare, with_features(corpus, rich, shape)])
    data = data_of(corpus, PLAIN, teaching, features={1: "stored"})
    for step, view in enumerate([0, 0, 1, 1, 2, 2, 0]):
        batch = data.load(step)
        nothing, maps = batch.targets.maps
        assert not nothing
        assert maps["stored"].dtype == torch.float32
        assert maps["stored"].shape == (16, *shape)
        expected = torch.tensor([feature_of(key, view) for key in batch.keys])
        assert torch.equal(maps["stored"].flatten(1).amax(1), expected)
        assert torch.equal(maps["stored"].flatten(1).amin(1), expected)


def turned(shard: Shard, view: int) -> np.ndarray:
    """Logits that name a class in turn."""
    return 5 * np.eye(3, dtype=np.float32)[(np.arange(len(shard)) + view) % 3]


def test_targets_may_be_the_mean_over_all_stored_views(corpus: Corpus) -> None:
    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "a", turned, views=2)])
    shown, mean = (data_of(corpus, PLAIN, teaching, targets=targets) for targets in ("view", "mean"))
    for step in range(6):
        batch, averaged = shown.load(step), mean.load(step)
        assert torch.equal(batch.x_B3HW, averaged.x_B3HW)
        assert batch.targets.teacher_KBC is not None
        assert batch.targets.teacher_KBC.softmax(-1).amax() > 0.9
        assert averaged.targets.teacher_KBC is not None
        torch.testing.assert_close(averaged.targets.teacher_KBC.softmax(-1), torch.full((1, 16, 3), 1 / 3))
        assert averaged.targets.valid_B.all()


def test_features_beside_mean_targets_are_those_of_the_view(corpus: Corpus) -> None:
    teaching = SoftLabelReader(corpus, [with_features(corpus, tiny_labels(corpus, "a", turned, views=2), (5,))])
    data = data_of(corpus, PLAIN, teaching, targets="mean", features={0: "stored"})
    batch = data.load(2)  # of the second epoch, view 1
    expected = torch.tensor([feature_of(key, 1) for key in batch.keys])
    assert torch.equal(batch.targets.maps[0]["stored"][:, 0], expected)


def test_features_that_nobody_stored_are_asked_for_by_name(corpus: Corpus) -> None:
    data = data_of(
        corpus, PLAIN, SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat, views=2)]), features={0: "stored"}
    )
    with pytest.raises(UsageError, match="teacher a stored no features"):
        data.load(0)


def test_a_training_without_features_carries_no_maps(corpus: Corpus) -> None:
    teaching = SoftLabelReader(corpus, [with_features(corpus, tiny_labels(corpus, "a", flat, views=2), (5,))])
    assert data_of(corpus, PLAIN, teaching).load(0).targets.maps == ()


def test_every_sample_has_a_place_of_its_own_among_those_that_train(corpus: Corpus) -> None:
    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat, views=2)])
    data = data_of(corpus, PLAIN, teaching, batch=10, weights={"train-0000": 0.0, "train-0017": 0.0})
    assert data.samples == 30
    places: dict[str, set[int]] = {}
    for step in range(9):
        batch = data.load(step)
        assert batch.targets.index_B is not None
        for key, index in zip(batch.keys, batch.targets.index_B.tolist(), strict=True):
            places.setdefault(key, set()).add(index)
    assert sorted(index for own in places.values() for index in own) == list(range(30))
    assert len(places) == 30


def test_the_prior_is_that_of_labelled_images_that_train(corpus: Corpus) -> None:
    label = np.concatenate([shard.label for shard in corpus.of_split("train")])
    keys = np.concatenate([shard.keys for shard in corpus.of_split("train")])
    out = {str(key): 0.0 for key in keys[label == 0][1:]}
    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "a", flat, views=2)])
    count = np.array([1, (label == 1).sum(), (label == 2).sum()])
    data = data_of(corpus, PLAIN, teaching, weights=out, sampling=Sampling(classes="balanced"))
    assert data.prior == pytest.approx(tuple(count / count.sum()))


def test_a_multilabel_corpus_has_no_prior(store: LocalStore) -> None:
    assert data_of(tiny_corpus(store, task="multilabel"), PLAIN, None).prior == ()
