"""The page in a real browser, from a file: what it answers is what Python answers, and it asks nobody."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from infra.errors import PermanentError, UsageError
from tasks.data.grade_decision import GradeDecision
from tasks.page.build import page_of
from tasks.page.runtime import BrowserRuntime
from tasks.preprocessing.frame_mask import polygons_of
from tasks.preprocessing.stored_image import ImageRecipe
from tests.browser import chromium
from tests.tasks.page.driving import ask, refusal, start
from tests.tasks.page.students import SIDE, PulledStudent

GRADES = {
    "task": "ordinal",
    "cut_points": [0.9, 1.5, 1.8],
    "temperature": 1.4,
    "referable": 2,
    "operating_point": {"threshold": 0.45, "temperature": 1.4},
}


def recipe(**changes: Any) -> ImageRecipe:
    given: dict[str, Any] = {"size": 128, "encode": "jpeg", "quality": 92, "crop": "none", "max_pixels": 4_000_000}
    return ImageRecipe(**given | changes)


def disc(side: int = 700, seed: int = 0) -> np.ndarray:
    """A round field on a dark margin, smooth with some noise: BGR uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, : side + 120]
    inside = (rows - side / 2) ** 2 + (columns - side / 2 - 60) ** 2 < (0.44 * side) ** 2
    image = np.stack(
        [40 + 30 * np.sin(rows / 60), 90 + 40 * np.cos(columns / 80), 150 + 60 * np.sin((rows + columns) / 90)], 2
    )
    image += cv2.GaussianBlur(rng.normal(0, 60, image.shape), (0, 0), 3)
    return np.where(inside[..., None], np.clip(image, 0, 255), 4).astype(np.uint8)


def saved(folder: Path, name: str, image: np.ndarray) -> Path:
    path = folder / name
    cv2.imwrite(str(path), image)
    return path


CASES: dict[str, dict[str, Any]] = {
    "crop": {"crop": "fundus"},
    "mask": {"mask": polygons_of("hyper-kvasir")},
    "no jpeg": {"crop": "endoscopy", "encode": "png"},
    "as it is": {"size": None, "encode": "keep"},
}


@pytest.mark.parametrize("case", CASES)
def test_it_sees_and_answers_what_python_does(case: str, tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe(**CASES[case]), GRADES)
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    files = [saved(tmp_path, "photograph.png", disc()), saved(tmp_path, "small.jpg", disc(200, 1))]
    with chromium() as browser:
        start(browser, made.path)
        for file in files:
            found, expected = ask(browser, file), student.view(file.read_bytes())
            far = np.abs(found.view.astype(int) - expected)
            assert far.max() <= 4, file.name
            assert far.mean() <= 0.5, file.name
            # Of the same view the network says the same.
            np.testing.assert_allclose(found.probabilities, student.probabilities(found.view), atol=1e-5)
            np.testing.assert_allclose(found.probabilities, student.probabilities(expected), atol=2e-3)
        assert browser.requests == []
        assert browser.complaints == []


def test_a_large_jpeg_is_seen_at_its_reduced_scale(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe(crop="fundus", encode="png"))
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    with chromium() as browser:
        start(browser, made.path)
        for turn in (1, 6):
            data = io.BytesIO()
            exif = Image.Exif()
            exif[0x112] = turn
            Image.fromarray(disc(1100)[..., ::-1]).save(data, "JPEG", quality=90, exif=exif)
            file = tmp_path / f"turned-{turn}.jpg"
            file.write_bytes(data.getvalue())
            far = np.abs(ask(browser, file).view.astype(int) - student.view(data.getvalue()))
            assert far.mean() <= 0.5


def test_grades_and_referral_are_those_of_the_registered_student(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe(), GRADES)
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    with chromium() as browser:
        start(browser, made.path)
        found = ask(browser, saved(tmp_path, "photograph.png", disc(300)))
        text = browser.page.locator("#referral").inner_text()
    grade = int(np.searchsorted(GRADES["cut_points"], found.probabilities @ np.arange(4), side="right"))
    assert found.decided == [grade]
    calibrated = GradeDecision(None, 1.4).calibrated(found.probabilities[None])[0]
    assert found.referred is not None
    assert found.referred["probability"] == pytest.approx(calibrated[2:].sum())
    assert found.referred["referred"] == (calibrated[2:].sum() >= 0.45)
    assert text.startswith("Refer:" if found.referred["referred"] else "Do not refer:")


def test_several_findings_are_named_each(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe(), {"task": "multilabel", "classes": ["a", "b", "<c>"]})
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    with chromium() as browser:
        start(browser, made.path)
        found = ask(browser, saved(tmp_path, "photograph.png", disc(300)))
        names = browser.page.locator(".bar > :first-child").all_inner_texts()
    assert names == ["a", "b", "<c>"]
    assert found.decided == np.flatnonzero(found.probabilities >= 0.5).tolist()
    assert found.referred is None


def test_what_is_outside_is_refused_or_noted(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe(crop="fundus"))
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    text, cut, large = (tmp_path / name for name in ("notes.txt", "cut.jpg", "large.png"))
    text.write_text("no picture at all, but some words")
    whole = cv2.imencode(".jpg", disc(300))[1].tobytes()
    cut.write_bytes(whole[: len(whole) // 2])
    # Of a picture of 400 megapixels the header alone: nothing may be decoded.
    png = cv2.imencode(".png", disc(60))[1].tobytes()
    large.write_bytes(png[:16] + (20_000).to_bytes(4, "big") * 2 + png[24:])
    with chromium() as browser:
        start(browser, made.path)
        assert "this is no image" in refusal(browser, text)
        assert "the JPEG is cut off" in refusal(browser, cut)
        assert "too large: 20000 x 20000 pixels" in refusal(browser, large)
        notes = ask(browser, saved(tmp_path, "grey.png", np.full((50, 50, 3), 120, np.uint8))).notes
    assert [note.split(" ")[0:3] for note in notes] == [
        ["No", "round", "field"],
        ["The", "picture", "has"],
        ["The", "picture", "is"],
    ]


def test_the_map_covers_the_view(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe())
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    with chromium() as browser:
        start(browser, made.path)
        ask(browser, saved(tmp_path, "photograph.png", disc(300)))
        browser.page.click("#explain")
        browser.page.wait_for_selector("#map-scale:not([hidden])", timeout=120_000)
        size = browser.page.evaluate("[...document.querySelectorAll('#view canvas')].map(c => [c.width, c.height])")
        drawn = browser.page.evaluate(
            "Math.max(...[...document.querySelectorAll('#view canvas')].at(-1).getContext('2d')"
            f".getImageData(0, 0, {SIDE}, {SIDE}).data.filter((_, at) => at % 4 === 3))"
        )
    assert size == [[SIDE, SIDE], [SIDE, SIDE]]
    assert drawn == 190  # alpha where the answer changes most


def test_the_browser_forbids_every_connection(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe())
    made = page_of(student.folder, tmp_path / "page", runtime=runtime)
    with chromium() as browser:
        start(browser, made.path)
        why = browser.page.evaluate("fetch('https://example.org').then(() => 'sent', error => String(error))")
        assert "Failed to fetch" in why
        assert any("Content Security Policy" in text or "violates" in text for text in browser.complaints)


def test_the_same_student_is_the_same_page(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe())
    first, second = (page_of(student.folder, tmp_path / name, runtime=runtime).path for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["index.html"]


def test_names_cannot_end_a_script(tmp_path: Path, runtime: BrowserRuntime) -> None:
    name = "</script><script>alert(1)</script>"
    student = PulledStudent(tmp_path / "pulled", recipe(), {"classes": [name, "b"]})
    text = page_of(student.folder, tmp_path / "page", title=name, runtime=runtime).path.read_text()
    assert name not in text


def test_a_folder_without_an_onnx_file_is_named(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe())
    (student.folder / "artifacts" / "network.onnx").unlink()
    with pytest.raises(UsageError, match=r"has no artifacts/network\.onnx"):
        page_of(student.folder, tmp_path / "page", runtime=runtime)


def test_preprocessing_of_another_format_is_refused(tmp_path: Path, runtime: BrowserRuntime) -> None:
    student = PulledStudent(tmp_path / "pulled", recipe())
    file = student.folder / "artifacts" / "preprocessing.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(PermanentError, match="format 2; this release reads 1"):
        page_of(student.folder, tmp_path / "page", runtime=runtime)
