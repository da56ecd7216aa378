"""One run of the whole line that several tests look at, and the served pages beside it."""

from __future__ import annotations

import json
import shutil
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from infra.servers.prefect_api import free_port
from tests.line import TWO_WORKERS, Place

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="package")
def first(place: Place, prefect_server: str) -> dict[str, Any]:
    """The first run of the whole line, on an API of its own; those after it share one."""
    result = place.json("retrain", str(place.spec), *TWO_WORKERS)
    place.api = prefect_server
    return result


class Served:
    """What `stillroom up` serves."""

    def __init__(self, prefect: str, mlflow: str, auth: str) -> None:
        self.prefect, self.mlflow = prefect, mlflow
        self.token = b64encode(auth.encode()).decode()

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """POST to Prefect's API."""
        request = urllib.request.Request(
            f"{self.prefect}/api{path}",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Basic {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def runs(self) -> list[dict[str, Any]]:
        """Flow runs, newest first."""
        return list(self.ask("/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 10}))


@contextmanager
def serving(place: Place) -> Iterator[Served]:
    """`stillroom up` over the place's home, while the block runs."""
    shared, place.api = place.api, None
    ports = [free_port(), free_port(), free_port()]
    options = zip(("--prefect-port", "--mlflow-port", "--page-port"), map(str, ports), strict=True)
    process = place.start("up", "--no-worker", "--no-dask", *(part for option in options for part in option))
    place.wait_until(process, lambda p: (p.root / "home" / "services.json").exists())
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in ports[:2])
    yield Served(prefect, mlflow, (place.root / "home" / "prefect-auth").read_text())
    assert "asked process" in place.run("down").stdout
    assert process.wait(60) == 0
    place.api = shared


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page of a real browser."""
    browser = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=FLAGS)
        yield chromium.new_page(viewport={"width": 1400, "height": 1600})
        chromium.close()
