"""Pages of a store that `stillroom up` serves: to who has the address that this home has made, and to nobody else."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.stored_pages import address_of, stored_page
from infra.servers.overview import Overview
from infra.servers.prefect_api import free_port
from infra.servers.process_tag import process_tag
from infra.servers.services import services_note
from infra.settings import home_folder
from infra.storage.store import LocalStore


@pytest.fixture
def page(home: Path) -> Iterator[str]:
    """The page of a `stillroom up` of this home, which this process stands for."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    home_folder()
    services_note().write_text(json.dumps({"process": process_tag(), "pid": os.getpid(), "page": url}))
    served = Overview("127.0.0.1", port, list, "", stored_page)
    yield url
    served.close()


def status_of(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=60)
    with caught.value:
        return caught.value.code


def test_the_address_of_a_page_shows_it_and_lets_it_run_nothing(page: str, store: LocalStore) -> None:
    store.put("reports/eyes/page.html", b"<h1>a student</h1>")
    address = address_of(store, "reports/eyes/page.html")
    assert address is not None
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert answer.read() == b"<h1>a student</h1>"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_code_of_one_page_opens_no_other(page: str, store: LocalStore) -> None:
    store.put("page.html", b"a page")
    store.put("shards/eyes.tar", b"images")
    address = str(address_of(store, "page.html"))
    assert status_of(address.replace("page.html", "shards/eyes.tar")) == 404
    assert status_of(f"{page}/stored/{'0' * 64}/{urlsplit(address).path.split('/')[3]}/page.html") == 404
    assert status_of(f"{page}/stored/page.html") == 404


def test_a_page_that_was_removed_is_gone(page: str, store: LocalStore) -> None:
    store.put("page.html", b"a page")
    address = str(address_of(store, "page.html"))
    store.delete("page.html")
    assert status_of(address) == 404


def test_there_is_no_address_while_nothing_serves(home: Path, store: LocalStore) -> None:
    assert address_of(store, "page.html") is None
