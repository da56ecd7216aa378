"""Fixtures of the tests of ingest."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from tests.tasks.ingest.graded import graded


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """40 graded images of 20 patients, 6 more in the pool."""
    return graded(tmp_path / "corpus")


@pytest.fixture
def no_cluster() -> Cluster:
    """A cluster that fails when anybody asks for a worker."""
    return Cluster(ClusterSection(kind="address", address="nowhere://0"))
