"""The page in a real browser: whole in itself, readable on a laptop and on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.report.page import page_of
from tests.browser import A4, LAPTOP, chromium
from tests.tasks.report.conftest import JudgedLine, export_of

TASKS = ("single", "ordinal", "multilabel")


@pytest.mark.parametrize("task", TASKS)
def test_it_asks_for_nothing_complains_of_nothing_and_fits(
    task: str, judged: Callable[[str], JudgedLine], tmp_path: Path
) -> None:
    line = judged(task)
    file = tmp_path / "page.html"
    file.write_bytes(page_of(line.content(export=export_of(line)), pictures=True))
    for size, media in ((LAPTOP, "screen"), (A4, "print")):
        with chromium(size) as browser:
            browser.page.emulate_media(media=media)  # type: ignore[arg-type]
            browser.open(file)
            assert browser.fits()
            assert browser.requests == []
            assert browser.complaints == []
            assert browser.page.locator("svg.chart").count() == 3
            loaded = browser.page.evaluate("[...document.images].map(image => image.naturalWidth)")
            assert loaded
            assert all(loaded)


def test_the_verdict_stands_above_every_figure(judged: Callable[[str], JudgedLine], tmp_path: Path) -> None:
    line = judged("ordinal")
    file = tmp_path / "page.html"
    file.write_bytes(page_of(line.content(), pictures=True))
    with chromium() as browser:
        browser.open(file)
        headings = browser.page.locator("h2").all_inner_texts()
        assert headings[0] == f"Gate: {line.gate.facts['verdict']}"
        rules = browser.page.locator("#gate tbody tr").all_inner_texts()
    assert len(rules) == len(line.gate.facts["rules"])
    for text, rule in zip(rules, line.gate.facts["rules"], strict=True):
        assert rule["rule"] in text
        assert rule["verdict"] in text
        assert rule["figure"] in text


def test_light_and_dark_differ(judged: Callable[[str], JudgedLine], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(page_of(judged("single").content(), pictures=True))
    found = []
    with chromium() as browser:
        for scheme in ("light", "dark"):
            browser.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            browser.open(file)
            found.append(browser.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert found == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]


def test_names_of_classes_are_no_markup(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    name = "<script>alert(1)</script>"
    classes = [name, *line.report.facts["classes"][1:]]
    rows = [{**row, "class": new} for row, new in zip(line.report.facts["per_class"], classes, strict=True)]
    report = line.report.model_copy(update={"facts": {**line.report.facts, "classes": classes, "per_class": rows}})
    text = page_of(line.content(report=report), pictures=True).decode()
    assert name not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_copy_without_pictures_names_no_image(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    with_them, without = (page_of(line.content(), pictures=shown).decode() for shown in (True, False))
    keys = [mistake.key for mistake in line.content().worst[0]]
    assert keys
    assert all(key in with_them for key in keys)
    assert "<img" not in without
    assert not [key for shard in line.corpus.shards for key in shard.keys if key in without]


def test_formats_and_speeds_stand_there_where_there_is_an_export(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    text = page_of(line.content(export=export_of(line)), pictures=False).decode()
    assert "no: slower than float32" in text
    assert "1.23" in text
    assert "32.3 million" in text
    assert "Formats and speed" not in page_of(line.content(), pictures=False).decode()
