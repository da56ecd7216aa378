"""Which samples come, how often, and the same on any number of ranks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from infra.errors import UsageError
from infra.storage.store import LocalStore
from models.augmentation.draws import NO_PARTNER, ViewRecipe
from models.training.config import Batch
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import SoftLabelReader
from tasks.data.views import stored_partners
from tasks.distill.batches import TrainData
from tasks.distill.training_job import Sampling
from tests.tiny import tiny_corpus, tiny_labels

CUTMIX = ViewRecipe(32, mix="cutmix")


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    """80 labelled training images of three classes and 40 unlabelled ones, in shards of 32."""
    return tiny_corpus(store, train=80, unlabelled=40, shard_size=32)


def zeros(shard: Shard, view: int) -> np.ndarray:
    return np.zeros((len(shard), 3), dtype=np.float32)


def data_of(corpus: Corpus, recipe: ViewRecipe, sampling: Sampling, *, taught: bool = True, **kind: Any) -> TrainData:
    def partner(shard: Shard, view: int) -> np.ndarray | None:
        return stored_partners(recipe, view, shard)

    teaching = SoftLabelReader(corpus, [tiny_labels(corpus, "t", zeros, views=2, partner=partner)]) if taught else None
    kind = {"seed": 0, "batch": 24, "size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3, **kind}
    return TrainData(corpus, recipe, 2, teaching, kind.pop("weights", {}), sampling=sampling, **kind)


def keys_of(data: TrainData, steps: int) -> list[str]:
    return [key for step in range(steps) for key in data.load(step).keys]


def label_of(corpus: Corpus) -> dict[str, int]:
    return {str(k): int(y) for shard in corpus.shards for k, y in zip(shard.keys, shard.label, strict=True)}


def test_a_pool_of_labelled_images_leaves_the_others_out(corpus: Corpus) -> None:
    label = label_of(corpus)
    data = data_of(corpus, ViewRecipe(32), Sampling(pool="labelled"), batch=20)
    assert data.samples == 80
    assert Counter(keys_of(data, 4)) == dict.fromkeys((k for k, y in label.items() if k[:5] == "train" and y >= 0), 1)


def test_balanced_classes_come_as_often(corpus: Corpus) -> None:
    label = label_of(corpus)
    natural = Counter(label[key] for key in keys_of(data_of(corpus, ViewRecipe(32), Sampling(), batch=30), 4))
    balanced = Counter(
        label[k] for k in keys_of(data_of(corpus, ViewRecipe(32), Sampling(classes="balanced"), batch=121), 1)
    )
    assert len(set(natural.values())) > 2
    assert balanced == {0: 27, 1: 27, 2: 27, -1: 40}


def test_an_image_that_comes_twice_in_a_balanced_epoch_is_seen_in_two_views(corpus: Corpus) -> None:
    rare = {str(k): 0.0 for k, y in label_of(corpus).items() if y == 2}
    for key in list(rare)[:3]:
        rare[key] = 1.0
    data = data_of(corpus, ViewRecipe(32), Sampling(classes="balanced"), taught=False, weights=rare, plain=False)
    batches = [data.load(step) for step in range(3)]
    seen = [(key, x.numpy().tobytes()) for b in batches for key, x in zip(b.keys, b.x_B3HW, strict=True)]
    assert max(Counter(key for key, _ in seen).values()) > 3
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("ratio", "labelled"), [(0.0, 24), (1.0, 12), (2.0, 8), (5.0, 4)])
def test_every_batch_holds_its_share_of_labelled_images(corpus: Corpus, ratio: float, labelled: int) -> None:
    data = data_of(corpus, CUTMIX, Sampling(ratio=ratio))
    label = label_of(corpus)
    batches = [data.load(step) for step in range(20)]
    assert {sum(label[key] >= 0 for key in batch.keys) for batch in batches} == {labelled}
    counts = Counter(key for batch in batches for key in batch.keys)
    for wanted in (True, False):
        own = [counts[key] for key, y in label.items() if key[:5] == "train" and (y >= 0) == wanted]
        assert max(own) - min(own) <= 1


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(classes="balanced", ratio=2.0)])
def test_ranks_share_the_global_batches(corpus: Corpus, sampling: Sampling) -> None:
    def whole(ranks: int, threads: int) -> list[Batch]:
        slices = [
            list(data_of(corpus, CUTMIX, sampling, part=(rank, ranks)).batches(0, 4, threads=threads))
            for rank in range(ranks)
        ]
        return [joined([one[step] for one in slices]) for step in range(4)]

    def joined(slices: list[Batch]) -> Batch:
        assert len({len(one.keys) for one in slices}) == 1
        tensors = torch.cat([one.x_B3HW for one in slices])
        return Batch(tensors, slices[0].targets, [key for one in slices for key in one.keys])

    for ranks, threads in ((2, 1), (4, 3)):
        for one, other in zip(whole(1, 1), whole(ranks, threads), strict=True):
            assert one.keys == other.keys
            assert torch.equal(one.x_B3HW, other.x_B3HW)


def test_each_rank_has_its_share_of_labelled_images(corpus: Corpus) -> None:
    label = label_of(corpus)
    counts = {
        sum(label[key] >= 0 for key in data_of(corpus, CUTMIX, Sampling(ratio=2.0), part=(rank, 4)).load(step).keys)
        for rank in range(4)
        for step in range(3)
    }
    assert counts == {2}


def test_mixed_partners_of_one_kind_share_a_batch(corpus: Corpus) -> None:
    data = data_of(corpus, CUTMIX, Sampling(ratio=1.0), batch=20)
    shards = corpus.of_split("train")
    place = {str(key): (shard, row) for shard in shards for row, key in enumerate(shard.keys)}
    apart = 0
    for step in range(8, 12):  # of the second epoch of labelled images, view 1, and the third of others, view 2
        keys = data.load(step).keys
        for key in keys:
            shard, row = place[key]
            partner = stored_partners(CUTMIX, 1 if shard.labelled[row] else 2, shard)
            assert partner is not None
            other = int(partner[row])
            if other != NO_PARTNER and shard.labelled[other] == shard.labelled[row]:
                apart += str(shard.keys[other]) not in keys
    # At most one pair of each kind where two batches meet.
    assert apart <= 2 * 2 * 3


def test_a_batch_that_ranks_do_not_divide_is_refused(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="25 samples cannot be split evenly over 4 devices; 24 or 28 can"):
        data_of(corpus, ViewRecipe(32), Sampling(), batch=25, part=(0, 4))


@pytest.mark.parametrize(
    ("sampling", "taught", "text"),
    [
        (Sampling(ratio=2.0), False, "unlabelled_ratio: 2 needs labelled and unlabelled training images; 80 and 0"),
        (Sampling(ratio=2.0, pool="labelled"), True, "80 and 0 take part"),
        (Sampling(ratio=60.0), True, "leaves no labelled image in a batch of 24"),
        (Sampling(ratio=0.01), True, "leaves no unlabelled image in a batch of 24"),
    ],
)
def test_a_ratio_that_cannot_be_had_is_refused(corpus: Corpus, sampling: Sampling, taught: bool, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        data_of(corpus, ViewRecipe(32), sampling, taught=taught)


def test_a_ratio_without_labelled_images_is_refused(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=0, unlabelled=40)
    with pytest.raises(UsageError, match="0 and 40 take part"):
        data_of(corpus, ViewRecipe(32), Sampling(ratio=2.0))
    with pytest.raises(UsageError, match="sampling: balanced needs labelled training images"):
        data_of(corpus, ViewRecipe(32), Sampling(classes="balanced"))
    with pytest.raises(UsageError, match="no training image takes part"):
        data_of(corpus, ViewRecipe(32), Sampling(), taught=False)


def test_balanced_classes_of_a_multilabel_corpus_are_refused(store: LocalStore) -> None:
    with pytest.raises(UsageError, match=r"train\.sampling: balanced needs one class an image"):
        data_of(tiny_corpus(store, task="multilabel"), ViewRecipe(32), Sampling(classes="balanced"))
