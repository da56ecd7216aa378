"""The page in a real browser, as a person uses it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.browser import Opened

_VIEW = """() => {
  const canvas = document.querySelector("#view canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (const value of data) text += String.fromCharCode(value);
  return [canvas.width, canvas.height, btoa(text)];
}"""


@dataclass(frozen=True)
class Answer:
    """What the page shows of one photograph."""

    probabilities: np.ndarray  # [C]
    decided: list[int]
    referred: dict[str, Any] | None
    view: np.ndarray  # uint8 [S, S, 3] RGB
    notes: list[str]


def start(browser: Opened, page: Path) -> None:
    """Open the page and wait for its network."""
    browser.open(page)
    browser.page.wait_for_selector("body[data-ready=yes]", timeout=60_000)


def ask(browser: Opened, file: Path) -> Answer:
    """Choose a photograph and read the answer."""
    page = browser.page
    page.set_input_files("#file", str(file))
    page.wait_for_function(
        "name => !document.getElementById('result').hidden && document.getElementById('name').textContent === name",
        arg=file.name,
        timeout=60_000,
    )
    width, height, text = page.evaluate(_VIEW)
    view = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]
    held = page.locator("#result")
    return Answer(
        probabilities=np.array(json.loads(held.get_attribute("data-probabilities") or "")),
        decided=json.loads(held.get_attribute("data-decided") or ""),
        referred=json.loads(held.get_attribute("data-referred") or ""),
        view=view,
        notes=page.locator("#notes li").all_inner_texts(),
    )


def refusal(browser: Opened, file: Path) -> str:
    """Choose a file that is refused, and read why."""
    browser.page.set_input_files("#file", str(file))
    browser.page.wait_for_selector("#problem:not([hidden])", timeout=60_000)
    return browser.page.locator("#problem").inner_text()
