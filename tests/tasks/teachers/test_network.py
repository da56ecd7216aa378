"""What a worker loads for each kind of teacher."""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.errors import CorruptError, UsageError
from infra.storage.store import LocalStore
from models.networks.build import build
from models.networks.weight_files import export_pt2
from tasks.data.weights import WeightsRef, copy_to_store, stored_ref
from tasks.teachers.network import load_teacher
from tasks.teachers.onnx_file import onnx_facts
from tasks.teachers.teacher import TeacherModel
from tasks.teachers.weights_lookup import find_weights
from tests.tasks.label.teachers import save_weights
from tests.tasks.teachers.onnx_nets import write_onnx

NOTHING = WeightsRef("", "1", "")
INPUT: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
MEANS = "tests.tasks.label.teachers:channel_means"


def model(kind: Any, name: str, weights: WeightsRef = NOTHING, **values: Any) -> TeacherModel:
    return TeacherModel("small", kind, name, **{"options": {}, "size": 32, "num_classes": 3, **values}, weights=weights)


def in_store(store: LocalStore, path: Path) -> WeightsRef:
    ref = stored_ref(path, path.suffix)
    copy_to_store(ref, path, store)
    return ref


def images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_a_network_has_its_weights_and_its_own_input(store: LocalStore, tmp_path: Path) -> None:
    ref = find_weights(str(save_weights(tmp_path, seed=4)), "micro_xs", store)
    network = load_teacher(model("network", "micro_xs", ref, features="pooled"), ref, store)
    built = build("micro_xs", num_classes=3, seed=4)
    x = torch.rand(2, 3, 32, 32)
    assert network.module is not None
    assert torch.equal(network.module(x), built.module(x))
    assert (network.mean, network.std, network.features) == (built.mean, built.std, "pooled")


def test_mean_and_std_of_the_spec_come_before_the_networks_own(store: LocalStore, tmp_path: Path) -> None:
    ref = find_weights(str(save_weights(tmp_path)), "micro_xs", store)
    network = load_teacher(model("network", "micro_xs", ref, **INPUT), ref, store)
    assert (network.mean, network.std) == (INPUT["mean"], INPUT["std"])


def test_a_head_of_other_classes_asks_for_training(store: LocalStore, tmp_path: Path) -> None:
    ref = find_weights(str(save_weights(tmp_path, classes=5)), "micro_xs", store)
    with pytest.raises(UsageError, match=r"small: the head of its weights has other classes .* 3; add `train:`"):
        load_teacher(model("network", "micro_xs", ref), ref, store)


def test_a_fold_teacher_has_the_weights_of_its_fold(store: LocalStore, tmp_path: Path) -> None:
    whole, fold = (find_weights(str(save_weights(tmp_path, seed=seed)), "micro_xs", store) for seed in (0, 1))
    teacher = model("network", "micro_xs", whole, folds=(fold,))
    network = load_teacher(teacher, teacher.folds[0], store)
    x = torch.rand(2, 3, 32, 32)
    assert network.module is not None
    assert torch.equal(network.module(x), build("micro_xs", num_classes=3, seed=1).module(x))


def test_an_exported_graph_answers_as_its_network(store: LocalStore, tmp_path: Path) -> None:
    built = build("micro_xs", num_classes=3)
    (tmp_path / "network.pt2").write_bytes(export_pt2(built.module, 32))
    ref = in_store(store, tmp_path / "network.pt2")
    network = load_teacher(model("graph", "", ref, **INPUT), ref, store)
    x = torch.rand(5, 3, 32, 32)
    assert network.module is not None
    assert torch.allclose(network.module(x), built.module(x), atol=1e-5)


def test_a_graph_that_could_run_code_names_its_teacher(store: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "network.pt2"
    path.write_bytes(export_pt2(build("micro_xs", num_classes=3).module, 32))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/constants/opaque_obj_0", b"x")
    ref = in_store(store, path)
    with pytest.raises(UsageError, match=r"teacher small: its graph .*opaque_obj_0', which a network does not need"):
        load_teacher(model("graph", "", ref, **INPUT), ref, store)


def test_an_onnx_file_is_found_in_the_store(store: LocalStore, tmp_path: Path) -> None:
    ref = in_store(store, write_onnx(tmp_path))
    network = load_teacher(model("onnx", "", ref, **INPUT), ref, store)
    assert network.onnx is not None
    assert network.onnx.read_bytes() == store.get(f"teachers/{ref.sha256}.onnx")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_classes": 4}, "teacher small: it has 3 classes, the corpus has 4"),
        ({"size": 48}, "teacher small: it takes images of 32 px, not of 48; set size to 32"),
        ({"features": "deep"}, "teacher small: it has no output deep; its outputs are logits"),
    ],
)
def test_an_onnx_file_that_does_not_fit_says_why(
    store: LocalStore, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    ref = in_store(store, write_onnx(tmp_path))
    with pytest.raises(UsageError, match=text):
        load_teacher(model("onnx", "", ref, **{**INPUT, **changes}), ref, store)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_an_onnx_file_reads_alike_by_either_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    pytest.importorskip(package)
    path = write_onnx(tmp_path)
    monkeypatch.setattr("tasks.teachers.onnx_file.find_spec", lambda name: name == package or None)
    facts = onnx_facts(path)
    assert facts is not None
    assert (facts.side, facts.classes, facts.outputs) == (32, 3, ("logits",))


def test_nothing_is_known_of_an_onnx_file_without_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path)
    monkeypatch.setattr("tasks.teachers.onnx_file.find_spec", lambda name: None)
    assert onnx_facts(path) is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": ["batch", 32, 32, 3]}, r"its input is \[\?, 32, 32, 3\]; a teacher takes RGB images \[B, 3, S, S\]"),
        ({"shape": [1, 3, 32, 32]}, r"it takes batches of 1 alone; export it with a free batch axis"),
        ({"kind": "float16"}, r"its input is float16; a teacher takes float32"),
        ({"answer": ["batch", 3, 1, 1]}, r"its first output is \[\?, 3, 1, 1\]; a teacher returns logits \[B, C\]"),
        ({"inputs": 2}, r"it has 2 inputs; a teacher takes images alone"),
        ({"external": True}, r"its weights lie in another file beside it; save it as one file"),
    ],
)
def test_an_onnx_file_of_another_make_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        onnx_facts(write_onnx(tmp_path, **changes))


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(UsageError, match="ONNX"):
        onnx_facts(path)


def test_a_python_function_gets_its_options_and_pixels(store: LocalStore) -> None:
    teacher = model("python", MEANS, options={"factor": 2.0})
    network = load_teacher(teacher, teacher.weights, store)
    assert network.call is not None
    logits = network.call(images())
    assert logits.dtype == np.float32
    assert np.allclose(logits, images().mean(axis=(1, 2)) * 2, atol=1e-4)


def test_a_python_function_gets_the_path_of_its_weights(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _module(
        tmp_path,
        monkeypatch,
        "def make(weights): return lambda images: float(weights.read_text()) + 0 * images[:, 0, 0]",
    )
    (tmp_path / "bias.txt").write_text("7")
    found = find_weights(str(tmp_path / "bias.txt"), "given:make", store)
    network = load_teacher(model("python", "given:make", found), found, store)
    assert network.call is not None
    assert network.call(images()).tolist() == [[7.0] * 3] * 4


@pytest.mark.parametrize(
    ("entry", "code", "text"),
    [
        ("nowhere_at_all:make", "", "the entry point nowhere_at_all:make called with nothing: ModuleNotFoundError"),
        ("given:made", "", "the entry point given:made .*: AttributeError"),
        ("given:make", "def make(): raise OSError('no licence')", "the entry point given:make .*: OSError: no licence"),
        ("given:make", "def make(): return 3", "the entry point given:make returned int, not a function"),
        ("given:make", "import no_such_thing", "the entry point given:make .*: ModuleNotFoundError"),
    ],
)
def test_a_python_entry_point_that_fails_is_named(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, code: str, text: str
) -> None:
    _module(tmp_path, monkeypatch, code)
    with pytest.raises(UsageError, match=f"teacher small: {text}"):
        load_teacher(model("python", entry), NOTHING, store)


def test_a_python_function_with_answers_of_another_shape_is_refused(store: LocalStore) -> None:
    network = load_teacher(model("python", MEANS, num_classes=5), NOTHING, store)
    assert network.call is not None
    with pytest.raises(UsageError, match=r"channel_means returned \[4, 3\] for 4 images .* has to be \[4, 5\]"):
        network.call(images())


def test_a_file_that_was_damaged_in_the_store_is_refused(store: LocalStore, tmp_path: Path) -> None:
    ref = in_store(store, write_onnx(tmp_path))
    store.put(f"teachers/{ref.sha256}.onnx", b"other")
    with pytest.raises(CorruptError, match=r"teachers/.*\.onnx of small is damaged; delete that object"):
        load_teacher(model("onnx", "", ref, **INPUT), ref, store)


def _module(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A module `given` that can be imported during the test."""
    (folder / "given.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "given", raising=False)
    importlib.invalidate_caches()
