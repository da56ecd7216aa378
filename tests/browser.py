"""A real Chromium for tests of pages, which notes what a page asks for and complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
LAPTOP = (1280, 800)
A4 = (688, 1017)  # CSS pixels within margins of 14 mm


@dataclass
class Opened:
    """A page and what it did."""

    page: Page
    requests: list[str] = field(default_factory=list)  # but for what the page itself holds
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path) -> None:
        """Open a file, and forget the request for it."""
        self.page.goto(path.as_uri())
        self.requests = [url for url in self.requests if url != path.as_uri()]

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@contextmanager
def chromium(size: tuple[int, int] = LAPTOP) -> Iterator[Opened]:
    """An empty page; the test skips where there is no Chromium."""
    browser = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=browser, args=FLAGS)
        opened = Opened(running.new_page(viewport={"width": size[0], "height": size[1]}))
        own = ("data:", "blob:")
        opened.page.on("request", lambda it: None if it.url.startswith(own) else opened.requests.append(it.url))
        opened.page.on("console", lambda it: opened.complaints.append(it.text) if it.type != "log" else None)
        opened.page.on("pageerror", lambda it: opened.complaints.append(str(it)))
        yield opened
        running.close()
