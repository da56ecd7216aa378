"""Images that kill the process that decodes them: each is quarantined, and everything beside it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import PermanentError
from infra.storage.store import LocalStore
from tests.tasks.corpora.layouts import csv, eyepacs, many_patients
from tests.tasks.ingest.deadly import ALONE, IN_WORKER, environment, mark
from tests.tasks.ingest.graded import catalog
from tests.tasks.ingest.specs import run, spec
from tests.tasks.ingest.videos import name, videos

pytestmark = pytest.mark.slow
REASON = "not readable: kills its process: killed by signal 9"


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers whose decoder dies of marked files."""
    with pytest.MonkeyPatch.context() as patch:
        start = tmp_path_factory.mktemp("start")
        # Workers have the path of this process, and their children that of the workers.
        patch.syspath_prepend(start)
        for name, value in environment(start).items():
            patch.setenv(name, value)
        with Cluster(ClusterSection(workers=2)) as cluster:
            assert len(cluster.workers()) == 2
            yield cluster


def test_one_image_in_200_that_kills_its_worker_is_quarantined_alone(
    tmp_path: Path, store: LocalStore, workers: Cluster, no_cluster: Cluster
) -> None:
    grades = many_patients(100)
    corpus = eyepacs(tmp_path / "corpus", grades)
    mark(corpus / "train/37_left.jpeg", ALONE)
    given = spec(corpus, store, ingest={"shard_size": 50})
    manifest = run(given, workers).manifest
    assert {q.source: q.reason for q in manifest.quarantine} == {"train/37_left.jpeg": REASON}
    assert sum(o.samples for o in manifest.outputs_where(kind="shard")) == 199
    rows = catalog(store, manifest)
    assert (rows["37_left"]["status"], rows["37_left"]["split"]) == ("quarantined", "")
    assert sum(row["status"] == "ok" for row in rows.values()) == 199
    csv(corpus / "trainLabels.csv", "image,level", [f"{key},{grade}" for key, grade in {**grades, "3_left": 1}.items()])
    again = run(given, no_cluster).manifest
    assert again.quarantine == manifest.quarantine


def test_a_shard_that_kills_workers_without_a_guilty_image_ends_the_run(
    tmp_path: Path, store: LocalStore, workers: Cluster
) -> None:
    corpus = eyepacs(tmp_path / "corpus", many_patients(20))
    mark(corpus / "train/7_left.jpeg", IN_WORKER)
    with pytest.raises(PermanentError, match=r"shard shards/eyepacs/.*: workers die of it, though none of its images"):
        run(spec(corpus, store), workers)
    assert store.sizes("manifests/") == {}


def test_an_image_that_kills_while_it_is_hashed_is_quarantined_alone(
    tmp_path: Path, store: LocalStore, workers: Cluster
) -> None:
    root = videos(tmp_path / "corpus", scenes=6)
    mark(root / name("x", 2, 1), ALONE)
    corpus = {"adapter": "folder", "modality": "endoscopy", "folder": {"layout": "{label}"}}
    manifest = run(spec(root, store, corpus, ingest={"size": 64, "shard_size": 50}), workers).manifest
    assert {q.source: q.reason for q in manifest.quarantine} == {name("x", 2, 1): REASON}
    assert manifest.facts["near_duplicates"]["images"] == 35
    assert manifest.facts["leaks"] == 0
