"""What a registered student sees of a file is what training and evaluation saw of it, value by value."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from models.augmentation.rendering import to_input
from tasks.ingest.pixels import ImageRecipe, encode_image
from tasks.preprocessing.network_input import Preprocessing
from tests.tasks.ingest.dicoms import dicom
from tests.tasks.ingest.pictures import noisy, packed, saved, tagged
from tests.tasks.register.served import MEAN, STD, artifacts_of, evaluated_view, preprocessing, recipe, student_of


def disc(height: int, width: int) -> np.ndarray:
    """A bright disc on black, as a fundus camera shows it."""
    inside = cv2.circle(np.zeros((height, width), np.uint8), (width // 2, height // 2), height // 2 - 20, 1, -1)
    return np.maximum(noisy(height, width), 60) * inside[..., None]


def framed(height: int, width: int) -> np.ndarray:
    """A bright field in black borders, as an endoscope shows it."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[30:-30, width // 4 : -30] = np.maximum(noisy(height - 60, width - width // 4 - 30), 60)
    return picture


KEEP: dict[str, Any] = {"size": None, "encode": "keep", "quality": 0}
DEEP = (noisy(90, 130)[..., 0].astype(np.uint16) << 4) + 5  # 12 bits
TURNED = saved(Image.fromarray(noisy(300, 420)), "JPEG", exif=tagged(6))
CASES = {
    "crop fundus": (packed(disc(300, 420), ".jpg"), recipe(crop="fundus")),
    "crop endoscopy": (packed(framed(300, 420), ".jpg"), recipe(crop="endoscopy")),
    "crop not found": (packed(noisy(300, 420), ".jpg"), recipe(crop="fundus")),
    "mask": (packed(noisy(300, 420), ".jpg"), recipe(mask=[[[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]]])),
    "reduced scale": (packed(noisy(800, 900), ".jpg"), recipe()),
    "size null": (packed(noisy(111, 87)), recipe(size=None)),
    "smaller than the size": (packed(noisy(30, 25)), recipe(encode="png")),
    "keep JPEG": (packed(noisy(111, 87), ".jpg"), recipe(**KEEP)),
    "keep turned JPEG": (TURNED, recipe(**KEEP)),
    "keep deep PNG": (packed(DEEP), recipe(**KEEP, bits=12)),
    "keep TIFF": (packed(noisy(111, 87), ".tiff"), recipe(**KEEP)),
    "deep": (packed(DEEP), recipe(bits=12, encode="png")),
    "turned": (TURNED, recipe()),
    "DICOM": (dicom(DEEP, bits=12), recipe(encode="png")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_view_of_a_file_is_that_of_the_evaluation(code: ModuleType, tmp_path: Path, case: str) -> None:
    data, own = CASES[case]
    student = student_of(code, tmp_path, own)
    assert np.array_equal(student.view(data), evaluated_view(data, own))


@pytest.mark.parametrize("case", ["crop fundus", "crop endoscopy"])
def test_the_pictures_of_these_tests_are_cropped(case: str) -> None:
    data, own = CASES[case]
    assert encode_image(data, own).cropped


def test_the_network_input_is_that_of_the_evaluation(code: ModuleType, tmp_path: Path) -> None:
    data, own = CASES["mask"]
    student = student_of(code, tmp_path, own)
    expected = to_input(evaluated_view(data, own)[None], 32, MEAN, STD)
    assert np.array_equal(student.preprocessing.network_input(student.view(data)[None]), expected)


@pytest.mark.parametrize("case", ["crop fundus", "crop endoscopy", "mask", "size null", "keep JPEG"])
def test_pixels_that_the_caller_decoded_give_the_view_of_their_file(
    code: ModuleType, tmp_path: Path, case: str
) -> None:
    pixels = cv2.imdecode(np.frombuffer(CASES[case][0], np.uint8), cv2.IMREAD_COLOR)
    own = CASES[case][1]
    student = student_of(code, tmp_path, own)
    # A PNG is never decoded at a reduced scale.
    assert np.array_equal(student.view(pixels[..., ::-1]), evaluated_view(packed(pixels), own))


def test_the_document_tells_the_steps_in_order() -> None:
    own = recipe(crop="fundus", size=512)
    steps = preprocessing(own).document()["steps"]
    assert [step["do"] for step in steps] == [
        "decode",
        "crop",
        "resize",
        "encode",
        "plain_view",
        "network_size",
        "normalise",
    ]
    assert (steps[1]["kind"], steps[2]["shorter_side"], steps[3]["quality"]) == ("fundus", 512, 92)


@pytest.mark.parametrize("case", CASES)
def test_a_document_is_read_as_it_was_written(case: str) -> None:
    document = json.loads(json.dumps(preprocessing(CASES[case][1]).document()))
    assert Preprocessing.of_document(document).document() == preprocessing(CASES[case][1]).document()


def test_a_document_that_asks_for_more_than_the_code_does_is_refused(code: ModuleType, tmp_path: Path) -> None:
    document = preprocessing().document()
    document["steps"].insert(1, {"do": "sharpen"})
    with pytest.raises(ValueError, match="steps are not what this code does"):
        code.Student().load_context(artifacts_of(tmp_path, document))


def test_a_document_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="has format 2; this code reads 1"):
        Preprocessing.of_document({**preprocessing().document(), "format": 2})


BURNED = dicom(DEEP, bits=12, BurnedInAnnotation="YES")


@pytest.mark.parametrize(
    ("data", "own", "text"),
    [
        (b"", recipe(), r"image 1: the file is empty \(zero bytes\)"),
        (b"%PDF-1.7 ...", recipe(), "image 1: the content is a PDF, whatever the name says; convert it to JPEG"),
        (packed(noisy(60, 60), ".jpg")[:-200], recipe(), "image 1: cut-off JPEG: no end-of-image marker"),
        (packed(noisy(60, 60)), recipe(max_pixels=3000), "image 1: too large: 60 x 60 pixels, and max_pixels allows"),
        (noisy(60, 60), recipe(max_pixels=3000), "image 1: too large: 60 x 60 pixels, and max_pixels allows 3000"),
        (packed(DEEP), recipe(bits=10), "image 1: its samples need 12 bits, and those that .* have 10 in use"),
        (dicom(DEEP, bits=12), recipe(**KEEP), r"image 1: the content is DICOM, which is not taken \(encode: keep\)"),
        (BURNED, recipe(), "image 1: the DICOM says that text is burned into its pixels; the network has seen none"),
    ],
)
def test_what_cannot_be_looked_at_is_named(
    code: ModuleType, tmp_path: Path, data: bytes | np.ndarray, own: ImageRecipe, text: str
) -> None:
    good = noisy(40, 40)
    with pytest.raises(ValueError, match=text):
        student_of(code, tmp_path, own).probabilities_of([packed(good) if isinstance(data, bytes) else good, data])


def test_a_dicom_without_pydicom_is_no_riddle(
    code: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, data = student_of(code, tmp_path), dicom(DEEP, bits=12)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ValueError, match=r"image 0: the content is DICOM, which is read where pydicom is installed"):
        student.probabilities_of(data)
