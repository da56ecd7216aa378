"""The code that travels with a model: one file of the project's own modules, whose input is what people have."""

from __future__ import annotations

import ast
import base64
import io
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from models.networks.build import build
from models.networks.weight_files import export_pt2
from tasks.register import consumer
from tasks.register.consumer import consumer_code
from tests.tasks.ingest.pictures import noisy, packed
from tests.tasks.register.served import artifacts_of, preprocessing, student_of


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
def test_pixels_come_in_many_wrappings(code: ModuleType, data: object, count: int) -> None:
    found = code.images_of(data)
    assert len(found) == count
    assert all(f.dtype == np.uint8 for f in found)
    assert np.array_equal(found[0], IMAGE)


FILE = b"\xff\xd8 a file that ends with zeros \0\0"


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (FILE, 1),
        (bytearray(FILE), 1),
        ([FILE, FILE], 2),
        (np.array([FILE], dtype=object), 1),
        (np.array([[FILE], [FILE]], dtype=object), 2),
        (np.array(FILE, dtype=object), 1),
        (np.array([base64.b64encode(FILE).decode()] * 2), 2),
    ],
)
def test_files_come_in_many_wrappings(code: ModuleType, data: object, count: int) -> None:
    assert code.images_of(data) == [FILE] * count


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (np.zeros((2, 4, 5, 4), np.uint8), r"image 0 has shape \(4, 5, 4\)"),
        (np.zeros((4, 5, 3), np.float32), "float32 values"),
        (np.full((4, 5, 3), 300), "expected whole numbers 0 to 255"),
        (np.zeros((0, 5, 3), np.uint8), "shape"),
        (np.array([FILE]), r"loses the zeros at their ends; pass np\.array\(\[data\], dtype=object\)"),
        (["photo.jpg"], "image 0 is text, but no base64 of a file; pass the bytes of the file, not its name"),
    ],
)
def test_what_is_no_image_is_named(code: ModuleType, data: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        code.images_of(data)


def test_the_code_imports_nothing_of_ours() -> None:
    nodes = list(ast.walk(ast.parse(consumer_code())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    needed = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    # The last two only where somebody passes a DICOM, pandas where MLflow asks.
    assert needed == {"numpy", "torch", "mlflow", "pandas", "cv2", "PIL", "pydicom", "gdcm"}


def test_a_module_that_is_not_shipped_is_no_surprise_of_a_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "MODULES", [name for name in consumer.MODULES if not name.endswith("crop")])
    with pytest.raises(ValueError, match="stored_image imports Box, FINDERS, which no module before it defines"):
        consumer_code()


def test_a_name_of_two_modules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "MODULES", (*consumer.MODULES, "tasks.preprocessing.crop"))
    with pytest.raises(ValueError, match="crop defines _SIDE, as a module before it does"):
        consumer_code()


def test_a_student_answers_for_files_and_pixels_alike(code: ModuleType, tmp_path: Path) -> None:
    student = student_of(code, tmp_path)
    picture = noisy(60, 80)
    files = np.array([packed(picture)] * 40, dtype=object)
    found = student.probabilities_of(files)
    assert found.shape == (40, 3)
    assert found.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    assert student.probabilities_of(picture[..., ::-1]) == pytest.approx(found[:1], abs=1e-6)
    assert student.probabilities_of([]).shape == (0, 3)


def test_a_student_whose_archive_was_exchanged_for_code_is_not_loaded(code: ModuleType, tmp_path: Path) -> None:
    buffer = io.BytesIO(export_pt2(build("micro_xs", num_classes=3).module, 32))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("archive/data/aotinductor/model/model.so", b"x")
    with pytest.raises(ValueError, match=r"model\.so', which a network does not need"):
        code.Student().load_context(artifacts_of(tmp_path, preprocessing().document(), buffer.getvalue()))
