"""The code that travels with a model: its view is the evaluation's view, its input what people have."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tasks.register
from infra.servers.tracking import connect, quiet
from models.augmentation.draws import Draw, ViewRecipe
from models.augmentation.rendering import render, to_input

CODE = Path(tasks.register.__file__).with_name("pyfunc.py")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The file loaded on its own, as a consumer has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_MLFLOW_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/m.db")
        connect()
    spec = importlib.util.spec_from_file_location("student_of_a_consumer", CODE)
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
