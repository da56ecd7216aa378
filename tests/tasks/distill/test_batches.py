"""Batches of a training: the pixels that the teachers saw, and the labels of both pictures of a mixture."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from infra.storage.store import LocalStore
from models.augmentation.draws import NO_PARTNER, ViewRecipe, mixture
from models.augmentation.rendering import to_input
from models.losses.terms import Term
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective
from models.training.trainer import Trainer
from tasks.data.corpus import Corpus, Shard, load_image
from tasks.data.soft_labels import SoftLabelReader
from tasks.data.views import rendered, stored_partners
from tasks.distill.batches import TrainData
from tests.tiny import tiny_corpus, tiny_labels

COUNT = 4
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
RECIPES = [ViewRecipe(32, mix="mixup", mix_share=0.9), ViewRecipe(32, mix="cutmix"), ViewRecipe(32)]


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    """250 training images in shards of 64, 50 of them unlabelled."""
    return tiny_corpus(store, train=200, val=1, test=1, unlabelled=50, shard_size=64)


def zeros(shard: Shard, view: int) -> np.ndarray:
    return np.zeros((len(shard), 3), dtype=np.float32)


def taught(corpus: Corpus, recipe: ViewRecipe, skip: tuple[int, ...] = ()) -> SoftLabelReader:
    def partner(shard: Shard, view: int) -> np.ndarray | None:
        return stored_partners(recipe, view, shard, skip)

    return SoftLabelReader(corpus, [tiny_labels(corpus, f"t-{recipe.mix}-{skip}", zeros, views=COUNT, partner=partner)])


def data_of(
    corpus: Corpus,
    recipe: ViewRecipe,
    teaching: SoftLabelReader | None,
    weights: dict[str, float] | None = None,
    **kind: Any,
) -> TrainData:
    kind = {"seed": 0, "batch": 25, "size": 32, "mean": MEAN, "std": STD, **kind}
    return TrainData(corpus, recipe, COUNT, teaching, weights or {}, **kind)


def samples(data: TrainData, epochs: int) -> dict[tuple[str, int], tuple[np.ndarray, Batch, int]]:
    """By key and epoch: the input, its batch and its place there."""
    size = data.samples
    found = {}
    for step in range(-(-epochs * size // data.batch)):
        batch = data.load(step)
        for place, (key, x) in enumerate(zip(batch.keys, batch.x_B3HW.numpy(), strict=True)):
            found[key, (step * data.batch + place) // size] = (x, batch, place)
    return {name: value for name, value in found.items() if name[1] < epochs}


def labelling(corpus: Corpus, recipe: ViewRecipe) -> dict[tuple[str, int], np.ndarray]:
    """By key and view: what a teacher is shown of the training images, as an input of the network."""
    found = {}
    for shard in corpus.of_split("train"):
        views = range(COUNT + 1)
        partner = {view: stored_partners(recipe, view, shard) for view in views}
        load = partial(load_image, corpus.store, shard)
        sizes = {view: {32} for view in views}
        for rows, images in rendered(load, shard, recipe, sizes, partner, range(len(shard)), threads=2, block=24):
            for (view, _), pictures in images.items():
                for row, x in zip(rows, to_input(pictures, 32, MEAN, STD), strict=True):
                    found[str(shard.keys[row]), view] = x
    return found


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.mix)
def test_training_sees_the_pixels_that_the_teachers_saw(corpus: Corpus, recipe: ViewRecipe) -> None:
    shown = labelling(corpus, recipe)
    seen = samples(data_of(corpus, recipe, taught(corpus, recipe)), epochs=COUNT + 1)
    assert len(shown) == len(seen) == 1250
    assert all(np.array_equal(x, shown[name]) for name, (x, _, _) in seen.items())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.mix)
def test_a_teacher_trains_on_no_view_that_it_will_label(corpus: Corpus, recipe: ViewRecipe) -> None:
    shown = {x.tobytes() for x in labelling(corpus, recipe).values()}
    seen = samples(data_of(corpus, recipe, None, plain=False), epochs=COUNT + 2)
    assert not {x.tobytes() for x, _, _ in seen.values()} & shown
    assert len({x.tobytes() for x, _, _ in seen.values()}) == 200 * (COUNT + 2)


def test_a_student_on_labels_alone_sees_the_plain_view_as_often_as_a_taught_one(corpus: Corpus) -> None:
    shown = {key: x for (key, view), x in labelling(corpus, RECIPES[2]).items() if view == 0}
    seen = samples(data_of(corpus, RECIPES[2], None), epochs=COUNT + 2)
    plain = {epoch for (key, epoch), (x, _, _) in seen.items() if np.array_equal(x, shown[key])}
    assert plain == {0, COUNT + 1}


def test_partners_are_those_that_were_stored(corpus: Corpus) -> None:
    recipe = RECIPES[1]
    less = samples(data_of(corpus, recipe, taught(corpus, recipe, skip=(3,))), epochs=2)
    first = corpus.of_split("train")[0]
    partner = stored_partners(recipe, 1, first)
    assert partner is not None
    widow = str(first.keys[partner[3]])
    _, batch, place = less[widow, 1]
    assert batch.targets.share_B is not None
    assert batch.targets.share_B[place] == 1


def test_a_mixed_sample_carries_both_labels_and_its_share(corpus: Corpus) -> None:
    recipe = RECIPES[0]
    seen = samples(data_of(corpus, recipe, taught(corpus, recipe)), epochs=2)
    alone = 0
    for shard in corpus.of_split("train"):
        partner = stored_partners(recipe, 1, shard)
        assert partner is not None
        for row, key in enumerate(shard.keys.tolist()):
            _, batch, place = seen[key, 1]
            targets, other = batch.targets, int(partner[row])
            assert targets.partner_label_B is not None
            assert targets.share_B is not None
            alone += other == NO_PARTNER
            share = 1.0 if other == NO_PARTNER else mixture(recipe, 1, key, str(shard.keys[other])).share
            assert targets.label_B[place] == shard.label[row]
            assert targets.partner_label_B[place] == (-1 if other == NO_PARTNER else shard.label[other])
            assert targets.share_B[place] == share
    assert 5 < alone < 50


def test_partners_bring_all_their_labels(store: LocalStore) -> None:
    corpus, recipe = tiny_corpus(store, task="multilabel"), RECIPES[1]
    batch = data_of(corpus, recipe, taught(corpus, recipe), batch=32).load(1)  # the second epoch: view 1
    shards = corpus.of_split("train")
    place = {str(key): (shard, row) for shard in shards for row, key in enumerate(shard.keys)}
    targets = batch.targets
    assert targets.partner_labels_BC is not None
    for number, key in enumerate(batch.keys):
        shard, row = place[key]
        partner = stored_partners(recipe, 1, shard)
        assert partner is not None
        assert shard.labels is not None
        assert targets.partner_labels_BC[number].tolist() == shard.labels[partner[row]].tolist()


def test_an_unmixed_training_carries_no_partners(corpus: Corpus) -> None:
    targets = data_of(corpus, RECIPES[2], taught(corpus, RECIPES[2])).load(0).targets
    assert (targets.partner_label_B, targets.partner_labels_BC, targets.share_B) == (None, None, None)


def known_share(data: TrainData, epochs: int) -> float:
    """Sum of the shares of known labels in the last of some epochs."""
    shares = [
        float(batch.targets.known_share_B[place])
        for (_, epoch), (_, batch, place) in samples(data, epochs).items()
        if epoch == epochs - 1
    ]
    return sum(shares)


@pytest.mark.parametrize("recipe", RECIPES[:2], ids=lambda recipe: recipe.mix)
def test_mixing_with_the_pool_takes_no_label_away(store: LocalStore, recipe: ViewRecipe) -> None:
    corpus = tiny_corpus(store, train=20, unlabelled=180, shard_size=64)
    data = data_of(corpus, recipe, taught(corpus, recipe))
    assert known_share(data, epochs=2) == pytest.approx(20, rel=1e-5)
    assert f"{recipe.mix} mixes" in data.mixing_note()
    assert "of 20 labelled images" in data.mixing_note()
    assert "lost" not in data.mixing_note()


def test_labels_that_are_lost_to_partners_without_weight_are_told(store: LocalStore) -> None:
    corpus, recipe = tiny_corpus(store, train=20, unlabelled=180, shard_size=64), RECIPES[0]
    pool = {str(key): 0.0 for shard in corpus.of_split("train") for key in shard.keys[~shard.labelled]}
    data = data_of(corpus, recipe, taught(corpus, recipe), pool, batch=20)
    lost = 1 - known_share(data, epochs=2) / 20
    assert lost > 0.1
    assert f"{lost:.0%} of the labels' weight is lost" in data.mixing_note()


def test_labelled_images_among_themselves_need_no_note(corpus: Corpus) -> None:
    assert data_of(corpus, RECIPES[0], None).mixing_note() == ""
    assert data_of(corpus, RECIPES[2], taught(corpus, RECIPES[2])).mixing_note() == ""


def test_a_key_that_is_weighed_out_changes_no_other_sample(corpus: Corpus) -> None:
    recipe = RECIPES[0]
    teaching = taught(corpus, recipe)
    everything = samples(data_of(corpus, recipe, teaching), epochs=2)
    out = {key for key, _ in list(everything)[::3]}
    rest = samples(data_of(corpus, recipe, teaching, dict.fromkeys(out, 0.0)), epochs=2)
    assert {key for key, _ in rest} == {key for key, _ in everything} - out
    assert all(np.array_equal(x, everything[name][0]) for name, (x, _, _) in rest.items())


def test_labels_alone_are_mixed_among_labelled_images_and_anew_each_epoch(corpus: Corpus) -> None:
    seen = samples(data_of(corpus, RECIPES[1], None, plain=False), epochs=6)
    assert len(seen) == 200 * 6
    for _, batch, place in seen.values():
        assert batch.targets.partner_label_B is not None
        assert batch.targets.labelled_B[place]
    first = [seen["train-0000", epoch][0] for epoch in range(6)]
    assert len({x.tobytes() for x in first}) == 6


def test_the_trainer_s_loss_knows_of_mixtures(corpus: Corpus) -> None:
    batch = data_of(corpus, RECIPES[1], None, plain=False).load(0)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 3))
    objective = Objective([Term("cross_entropy")])
    with torch.no_grad():
        expected = objective(network(batch.x_B3HW), batch.targets)[0].item()
        unmixed = replace(batch.targets, partner_label_B=None, share_B=None)
        assert objective(network(batch.x_B3HW), unmixed)[0].item() != pytest.approx(expected, rel=1e-3)
    seen: list[dict[str, float]] = []
    trainer = Trainer(network, objective, TrainConfig(steps=1, lr=0.1, log_every=1))
    trainer.fit(iter([batch]), on_log=lambda step, means, pace: seen.append(means))
    assert seen[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_batches_do_not_depend_on_threads(corpus: Corpus) -> None:
    runs = [
        [batch.x_B3HW for batch in data_of(corpus, RECIPES[0], None).batches(0, 6, threads=threads)]
        for threads in (1, 3)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
