"""An S3 server that is gone for a while: who knew it waits, who did not is told at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import TransientError
from infra.settings import Settings, reload_settings
from infra.storage.store import Store, open_store
from tests.s3server import S3Server

LONGEST_PAUSE = 0.5
OUTAGE = 3.0  # seconds; all attempts of one request, with all their pauses, take less


class Coming:
    """A server that comes and goes on one port, and a store that it answered for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server = S3Server(folder)
        self.url = self.server.url(self.server.bucket(), "p")

    def back(self) -> None:
        self.server = S3Server(self._folder, port=self.server.port)


@pytest.fixture
def coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coming]:
    monkeypatch.setenv("STILLROOM_S3_BACKOFF_CAP", str(LONGEST_PAUSE))
    monkeypatch.setenv("STILLROOM_PATIENCE", "60")
    reload_settings()
    made = Coming(tmp_path / "s3")
    yield made
    made.server.close()
    monkeypatch.undo()
    reload_settings()


CALLS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("new", b"new"),
    "put_file": lambda store: store.put_file("file", Path(__file__)),
    "get": lambda store: store.get("old"),
    "list": lambda store: store.sizes(""),
}


def test_requests_wait_for_a_server_that_comes_back(coming: Coming) -> None:
    store = open_store(coming.url)
    store.put("old", b"old")
    coming.server.close()
    with ThreadPoolExecutor() as pool:
        waiting = {name: pool.submit(call, store) for name, call in CALLS.items()}
        threading.Event().wait(OUTAGE)
        assert not any(one.done() for one in waiting.values())
        coming.back()
        found = {name: one.result(60) for name, one in waiting.items()}
    assert found["get"] == b"old"
    assert store.get("new") == b"new"
    assert store.get("file") == Path(__file__).read_bytes()


def test_an_address_at_which_nobody_ever_answered_is_told_at_once(coming: Coming, tmp_path: Path) -> None:
    other = S3Server(tmp_path / "other")
    url = other.url(other.bucket(), "p")
    other.close()
    with pytest.raises(TransientError, match="attempt 6 of 6"):
        open_store(url).get("anything")


def test_the_wait_ends(coming: Coming, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(coming.url)
    store.put("old", b"old")
    coming.server.close()
    monkeypatch.setenv("STILLROOM_PATIENCE", "1")
    reload_settings()
    with pytest.raises(TransientError, match=r"p/old: .* \(for 1 s, attempt \d+\)"):
        store.get("old")


def test_two_minutes_are_waited_for_without_a_setting() -> None:
    assert Settings.model_fields["patience"].default >= 120
