"""Out-of-fold teachers on a tiny corpus: what they were trained on, and under which keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Corpus
from tasks.data.folds import WithoutFold, fold_of
from tasks.distill.batches import TrainData
from tasks.distill.kept_images import KeptImages
from tasks.distill.stage import teach
from tasks.pipeline.context import Context
from tasks.spec import Spec, parse_spec
from tasks.teachers.teacher import teacher_handle, teacher_model
from tests.tiny import tiny_corpus

FOLDS = 3


def spec_of(store: LocalStore, **teacher: Any) -> Spec:
    return parse_spec(
        f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: 32, count: 2}}
teachers: [{{name: t, model: micro_xs, folds: {FOLDS}, train: {{epochs: 2, batch: 8, lr: 0.01}}}}]
student: {{model: micro_xs}}
run: {{device: cpu, train: {{threads: 1}}}}
""",
        overrides=[f"teachers.0.{k}={v}" for k, v in teacher.items()],
    )


def taught(store: LocalStore, cluster: Cluster, fold: tuple[int, int] | None, corpus: Corpus | None = None) -> Manifest:
    spec = spec_of(store)
    return teach(
        Context(store, cluster, spec.run), corpus or tiny_corpus(store), spec.teachers[0], spec, fold=fold
    ).manifest


class Watched(LocalStore):
    """A store that remembers which parts of its objects were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: set[tuple[str, int]] = set()

    def read(self, name: str, offset: int, size: int, *, cached: bool = True) -> bytes:
        self.reads.add((name, offset))
        return super().read(name, offset, size, cached=cached)


def images_seen(corpus: Corpus, store: Watched, mix: str) -> set[str]:
    """Keys of the images that two epochs of a training on labels alone read."""
    kind: Any = {"seed": 0, "batch": 8, "size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    data = TrainData(corpus, ViewRecipe(32, mix=mix), 2, None, {}, **kind)
    rows = sum(int(shard.labelled.sum()) for shard in corpus.of_split("train"))
    store.reads.clear()
    for _ in data.batches(0, -(-2 * rows // 8)):
        pass
    return {
        str(key)
        for shard in corpus.shards
        for key, offset in zip(shard.keys, shard.offsets.tolist(), strict=True)
        if (shard.output.name, offset) in store.reads
    }


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_no_labelled_image_was_in_the_training_of_the_teacher_that_labels_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mix: str
) -> None:
    store = Watched(tmp_path / "store")
    corpus = tiny_corpus(store)
    # Each training reads for itself what it sees.
    monkeypatch.setattr("tasks.distill.kept_images.IMAGES", KeptImages(limit=0))
    folds = fold_of(corpus, FOLDS)
    everybody = images_seen(corpus, store, mix)
    assert len(everybody) == 24
    for fold in range(FOLDS):
        labelled_by_it = {str(k) for number, own in folds.items() for k in corpus.shards[number].keys[own == fold]}
        assert labelled_by_it
        assert images_seen(WithoutFold(corpus, fold, FOLDS), store, mix) == everybody - labelled_by_it


def test_a_fold_teacher_depends_on_no_label_of_its_fold(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    own = fold_of(corpus, FOLDS)
    number = next(number for number, folds in own.items() if (folds == 1).any())
    row = int(np.flatnonzero(own[number] == 1)[0])
    first = [taught(store, cluster, (fold, FOLDS), corpus) for fold in (0, 1)]
    corpus.shards[number].label[row] = (corpus.shards[number].label[row] + 1) % 3
    second = [taught(store, cluster, (fold, FOLDS), corpus) for fold in (0, 1)]
    assert second[1] == first[1]
    assert second[0].key != first[0].key


def test_fold_teachers_are_trained_once_and_say_which_they_are(store: LocalStore, cluster: Cluster) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store)
    trained = [taught(store, cluster, fold) for fold in (None, *((fold, FOLDS) for fold in range(FOLDS)))]
    assert len({manifest.key for manifest in trained}) == FOLDS + 1
    assert [manifest.facts.get("fold") for manifest in trained] == [None, [0, FOLDS], [1, FOLDS], [2, FOLDS]]
    assert sum(manifest.facts["held_out"] for manifest in trained[1:]) == 24
    assert all(manifest.facts["steps"] < trained[0].facts["steps"] for manifest in trained[1:])
    assert teach(Context(store, cluster, spec.run), corpus, spec.teachers[0], spec, fold=(1, FOLDS)).cached
    model = teacher_model(teacher_handle(spec.teachers[0], trained, corpus, store), corpus, spec, store)
    assert model.weight_ids == [manifest.output(kind="model").id for manifest in trained]


def test_folds_do_not_change_the_whole_teacher(store: LocalStore, cluster: Cluster) -> None:
    corpus, plain = tiny_corpus(store), spec_of(store, folds="null")
    alone = teach(Context(store, cluster, plain.run), corpus, plain.teachers[0], plain).manifest
    assert taught(store, cluster, None) == alone


def test_folds_of_too_few_patients_are_refused(store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="folds: 90 is too many"):
        taught(store, cluster, (0, 90))


def test_mean_and_std_of_the_spec_are_those_of_the_training(store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store, mean="[0.1, 0.2, 0.3]", std="[0.4, 0.5, 0.6]")
    facts = teach(Context(store, cluster, spec.run), tiny_corpus(store), spec.teachers[0], spec).manifest.facts
    assert (facts["mean"], facts["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
