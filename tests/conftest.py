"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cluster import Cluster
from infra.cluster_spec import ClusterSection
from infra.store import LocalStore


@pytest.fixture
def real_data() -> Path:
    """The folder of real subsets; the test skips, saying so, where there is none."""
    folder = os.environ.get("STILLROOM_REAL_DATA")
    if not folder:
        pytest.skip("STILLROOM_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty local store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real local Dask cluster of two worker processes."""
    with Cluster(ClusterSection(workers=2)) as handle:
        yield handle
