"""The code that travels with a model: its view is the evaluation's view, its input what people have."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from infra.servers.tracking import connect, quiet
from models.augmentation.draws import Draw, ViewRecipe
from models.augmentation.rendering import render, to_input
from models.networks.build import build
from models.networks.weight_files import export_pt2
from tasks.register.consumer import consumer_code


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The file loaded on its own, as a consumer has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_MLFLOW_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/m.db")
        connect()
    path = tmp_path_factory.mktemp("consumer") / "student.py"
    path.write_text(consumer_code(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("student_of_a_consumer", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with quiet():
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


@pytest.mark.parametrize(("height", "width"), [(40, 40), (96, 130), (301, 200), (48, 48), (20, 31), (640, 480)])
@pytest.mark.parametrize("input_size", [32, 48, 64])
def test_the_plain_view_is_opencvs_within_one_level(code: ModuleType, height: int, width: int, input_size: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = code.plain_view(image, 48, input_size).astype(int)
    view = render(image, ViewRecipe(size=48), Draw())
    theirs = np.rint(to_input(view[None], input_size, (0.0,) * 3, (1.0,) * 3)[0].transpose(1, 2, 0) * 255).astype(int)
    # Two resizes, each within one level of OpenCV.
    assert np.abs(ours - theirs).max() <= 2
    assert np.abs(ours - theirs).mean() < 0.4


def test_a_flat_image_stays_flat(code: ModuleType) -> None:
    image = np.full((77, 50, 3), 200, np.uint8)
    assert (code.plain_view(image, 48, 64) == 200).all()


def _ragged(images: list[np.ndarray]) -> np.ndarray:
    out = np.empty(len(images), dtype=object)
    for i, image in enumerate(images):
        out[i] = image
    return out


IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (IMAGE, 1),
        (IMAGE[None].repeat(3, axis=0), 3),
        ([IMAGE, IMAGE], 2),
        (_ragged([IMAGE, IMAGE[:2]]), 2),
        (IMAGE.tolist(), 1),
        (np.array(IMAGE.tolist(), dtype=object), 1),
        (np.array([IMAGE.tolist()] * 2, dtype=object), 2),
    ],
)
def test_images_come_in_many_wrappings(code: ModuleType, data: object, count: int) -> None:
    found = code.images_of(data)
    assert len(found) == count
    assert all(f.dtype == np.uint8 for f in found)
    assert np.array_equal(found[0], IMAGE)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (np.zeros((2, 4, 5, 4), np.uint8), r"image 0 has shape \(4, 5, 4\)"),
        (np.zeros((4, 5, 3), np.float32), "float32 values"),
        (np.full((4, 5, 3), 300), "expected whole numbers 0 to 255"),
        (np.zeros((0, 5, 3), np.uint8), "shape"),
    ],
)
def test_what_is_no_image_is_named(code: ModuleType, data: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        code.images_of(data)


def test_the_code_imports_nothing_of_ours() -> None:
    nodes = list(ast.walk(ast.parse(consumer_code())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"numpy", "torch", "mlflow"}


def _packed(folder: Path, graph: bytes) -> SimpleNamespace:
    (folder / "network.pt2").write_bytes(graph)
    about = {"classes": ["a", "b", "c"], "task": "single", "view_size": 32, "input_size": 32, "mean": [0] * 3}
    (folder / "about.json").write_text(json.dumps({**about, "std": [1] * 3}))
    return SimpleNamespace(artifacts={"network": str(folder / "network.pt2"), "about": str(folder / "about.json")})


def test_a_student_answers(code: ModuleType, tmp_path: Path) -> None:
    student = code.Student()
    student.load_context(_packed(tmp_path, export_pt2(build("micro_xs", num_classes=3).module, 32)))
    assert student.predict(None, np.zeros((32, 32, 3), dtype=np.uint8)).sum() == pytest.approx(1)


def test_a_student_whose_archive_was_exchanged_for_code_is_not_loaded(code: ModuleType, tmp_path: Path) -> None:
    buffer = io.BytesIO(export_pt2(build("micro_xs", num_classes=3).module, 32))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("archive/data/aotinductor/model/model.so", b"x")
    with pytest.raises(ValueError, match=r"model\.so', which a network does not need"):
        code.Student().load_context(_packed(tmp_path, buffer.getvalue()))
