"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from s3transfer import upload as transfer

from infra.compute.certificates import create
from infra.settings import reload_settings
from infra.storage.store import Store, open_store
from tests.s3server import FaultProxy, S3Server

PART = 1 << 16


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half a second of silence is a fault, and a part has 64 KiB, which is less than S3 itself takes."""
    monkeypatch.setenv("STILLROOM_S3_TIMEOUT", "0.5")
    monkeypatch.setenv("STILLROOM_S3_PART", str(PART))
    monkeypatch.setattr(transfer, "ChunksizeAdjuster", partial(transfer.ChunksizeAdjuster, min_size=1))
    reload_settings()
    yield
    monkeypatch.undo()
    reload_settings()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """An empty bucket."""
    return s3_server.bucket()


@pytest.fixture
def shaky(s3_server: S3Server, fault_proxy: FaultProxy, bucket: str, impatient: None) -> Store:
    """A store behind the proxy, in `bucket` under the prefix `p`."""
    return open_store(s3_server.url(bucket, "p", endpoint=fault_proxy.endpoint))


@pytest.fixture
def tls(tmp_path: Path) -> str:
    """A folder with new certificates for a Dask cluster."""
    create(tmp_path / "tls")
    return str(tmp_path / "tls")
