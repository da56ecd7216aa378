"""Where the picture is in its frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.corpora.phantom.fundus import draw_fundus
from tasks.preprocessing.crop import Box, find_endoscopy, find_fundus, percentile_of
from tests.tasks.ingest.pictures import noisy, smooth


def disc(
    height: int, width: int, at: tuple[float, float], radius: float, *, light: int = 100, margin: int = 0
) -> np.ndarray:
    """A photograph: a round field of view at (x, y) in a noisy dark margin."""
    noise = np.random.default_rng(1).normal(margin, 1.0, (height, width, 3))
    y, x = np.ogrid[:height, :width]
    field = np.hypot(x - at[0], y - at[1]) < radius
    picture = smooth(height, width, seed=3).astype(float) * light / 255 + light / 2 + margin
    return np.clip(np.where(field[..., None], picture, noise), 0, 255).astype(np.uint8)


def pixels(box: Box | None, image: np.ndarray) -> tuple[float, float, float, float]:
    assert box is not None
    height, width = image.shape[:2]
    return box.left * width, box.top * height, box.right * width, box.bottom * height


@pytest.mark.parametrize("light", [12, 60, 200])
@pytest.mark.parametrize("margin", [0, 10])
def test_a_disc_is_found_however_dark_it_is(light: int, margin: int) -> None:
    image = disc(600, 900, (430, 310), 250, light=light, margin=margin)
    assert pixels(find_fundus(image), image) == pytest.approx((180, 60, 680, 560), abs=8)


def test_text_and_specks_in_the_margin_do_not_count() -> None:
    image = disc(600, 900, (450, 300), 250)
    cv2.putText(image, "JANE DOE 1950-01-01 OD", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    cv2.circle(image, (870, 570), 6, (255, 255, 255), -1)
    assert pixels(find_fundus(image), image) == pytest.approx((200, 50, 700, 550), abs=8)


def test_a_disc_that_the_frame_cuts_off_is_kept_and_padded() -> None:
    image = disc(600, 900, (450, 300), 360)
    box = find_fundus(image)
    assert pixels(box, image) == pytest.approx((90, 0, 810, 600), abs=8)
    assert box is not None
    cut = box.cut(image)
    assert cut.shape[0] == cut.shape[1] == pytest.approx(720, abs=10)
    assert not cut[:50].any()
    assert not cut[-50:].any()
    assert cut[62:-62].any(axis=(1, 2)).all()


def test_the_same_part_is_cut_at_every_scale() -> None:
    image = disc(600, 900, (430, 310), 250)
    whole, half = find_fundus(image), find_fundus(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert pixels(whole, image) == pytest.approx(pixels(half, image), abs=6)


def test_a_frame_without_a_margin_stays_whole() -> None:
    assert find_fundus(noisy(300, 400)) is None
    assert find_endoscopy(noisy(300, 400)) is None


def test_a_disc_that_fills_the_frame_stays_whole() -> None:
    assert find_fundus(disc(600, 600, (300, 300), 310)) is None


@pytest.mark.parametrize("image", [np.zeros((300, 400, 3), np.uint8), disc(600, 900, (450, 300), 60)])
def test_a_field_too_small_to_be_one_is_no_field(image: np.ndarray) -> None:
    assert find_fundus(image) is None
    assert find_endoscopy(image) is None


def test_a_shape_that_is_no_disc_is_no_field() -> None:
    image = np.zeros((600, 900, 3), np.uint8)
    image[200:400, 100:800] = 150
    assert find_fundus(image) is None
    triangle = np.zeros((600, 600, 3), np.uint8)
    cv2.fillPoly(triangle, [np.array([[50, 550], [550, 550], [50, 50]])], (150, 150, 150))
    assert find_fundus(triangle) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (7, 3)])
def test_tiny_and_thin_images_are_no_crash(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 9, np.uint8)
    assert find_fundus(image) is None
    assert find_endoscopy(image) is None


@pytest.mark.parametrize("eye", ["left", "right"])
@pytest.mark.parametrize("patient", range(8))
def test_phantom_photographs_lose_black_margin_alone(patient: int, eye: str) -> None:
    image = np.ascontiguousarray(draw_fundus(0, patient, eye, 3, 256)[..., ::-1])
    box = find_fundus(image)
    bright = cv2.medianBlur(image, 5).max(axis=2) > 40
    if box is None:
        # Nothing to gain: the field reaches the frame's edges.
        assert max(np.ptp(np.nonzero(bright)[0]), np.ptp(np.nonzero(bright)[1])) > 0.9 * 256
        return
    kept = np.zeros_like(bright)
    left, top, right, bottom = (round(v) for v in pixels(box, image))
    kept[top:bottom, left:right] = True
    assert bright[kept].sum() >= 0.999 * bright.sum()


def screen(frame: np.ndarray, left: int, top: int) -> np.ndarray:
    """A processor's screen of 1920 x 1080: the endoscope's picture, a panel of text and an inset beside it."""
    image = np.random.default_rng(0).integers(0, 3, (1080, 1920, 3), dtype=np.uint8)
    image[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    for row, text in enumerate(("Name: JANE DOE", "Sex: F  Age: 70", "1950-01-01", "12:45:10", "CVP:2  Eh:A3")):
        cv2.putText(image, text, (40, 120 + 60 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (230, 230, 230), 2)
    image[880:1000, 60:260] = 120
    return image


def field(height: int, width: int) -> np.ndarray:
    """An endoscope's picture with its corners cut off and a dark lumen."""
    frame = noisy(height, width) // 2 + 60
    cut = min(height, width) // 6
    for x, y in ((0, 0), (width, 0), (0, height), (width, height)):
        corner = [[x, y], [abs(x - cut), y], [x, abs(y - cut)]]
        cv2.fillPoly(frame, [np.array(corner)], (0, 0, 0))
    cv2.circle(frame, (width // 2, height // 3), height // 6, (2, 2, 2), -1)
    return frame


def test_an_endoscope_loses_borders_and_the_panel_of_text() -> None:
    image = screen(field(1000, 1200), left=640, top=40)
    assert pixels(find_endoscopy(image), image) == pytest.approx((640, 40, 1840, 1040), abs=16)


def test_an_endoscope_that_fills_its_frame_stays_whole() -> None:
    assert find_endoscopy(field(540, 640)) is None


def test_a_dark_screen_with_a_menu_stays_whole() -> None:
    assert find_endoscopy(screen(np.zeros((10, 10, 3), np.uint8), 900, 500)) is None


def test_an_endoscopy_crop_is_not_padded() -> None:
    image = screen(field(900, 1200), left=640, top=90)
    box = find_endoscopy(image)
    assert box is not None
    assert box.cut(image).shape[:2] == pytest.approx((900, 1200), abs=24)


@pytest.mark.real
def test_every_real_disc_is_found_or_fills_its_frame(real_data: Path) -> None:
    found = [find_fundus(cv2.imread(str(path))) for path in sorted(real_data.glob("imo-fundus/images/*.jpg"))]
    boxes = [box for box in found if box is not None]
    # Of 380 photographs 106 reach all edges; the others' discs are 0.94 of the frame wide, dark rims less.
    assert len(boxes) == 274
    assert all(0.91 < box.right - box.left < 0.97 and 0.91 < box.bottom - box.top < 0.97 for box in boxes)


@pytest.mark.real
def test_real_endoscopy_frames_lose_little(real_data: Path) -> None:
    paths = sorted(real_data.glob("hyper-kvasir/labeled-images/**/*.jpg"))[::5]
    boxes = [box for path in paths if (box := find_endoscopy(cv2.imread(str(path)))) is not None]
    assert all((box.right - box.left) * (box.bottom - box.top) > 0.75 for box in boxes)


@pytest.mark.real
def test_real_endoscopy_on_a_screen_is_found(real_data: Path) -> None:
    missed = []
    for path in sorted(real_data.glob("hyper-kvasir/labeled-images/**/*.jpg"))[::10]:
        frame = cv2.resize(cv2.imread(str(path)), (1200, 1000), interpolation=cv2.INTER_AREA)
        box = find_endoscopy(screen(frame, left=640, top=40))
        if box is None or box.left * 1920 < 560 or box.right * 1920 < 1700:
            missed.append(path.name)
    assert len(missed) <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (17, 31), (256, 210)])
@pytest.mark.parametrize("q", [0, 37, 50, 95, 100])
def test_percentiles_are_those_of_numpy(shape: tuple[int, int], q: float) -> None:
    grey = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    assert percentile_of(grey, q) == pytest.approx(float(np.percentile(grey, q)), abs=1e-9)
