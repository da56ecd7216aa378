"""Ingest into S3, and from it, while requests break: complete and verified, or an error that names the object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.digest import sha256_bytes
from infra.errors import StillroomError
from infra.settings import reload_settings
from infra.storage.store import LocalStore, open_store
from tasks.ingest.stage import ingest
from tasks.maintenance.verify import verify
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult
from tasks.spec import Spec
from tests.faultproxy import FaultProxy
from tests.s3server import S3Server
from tests.tasks.corpora.layouts import eyepacs, many_patients

FAULTS = ("500", "503", "reset", "lost", "stall", "short", "wrong")
WRITES = ("*/shards/*", "*/units/*", "*/catalogs/*", "*/listings/*", "*/manifests/*", "*/heads/*")


@pytest.fixture(scope="module")
def impatient() -> Iterator[Cluster]:
    """Workers that take a second of silence for a fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_S3_TIMEOUT", "1")
        reload_settings()
        with Cluster(ClusterSection(workers=2)) as cluster:
            yield cluster
    reload_settings()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eyepacs(tmp_path_factory.mktemp("s3") / "corpus", many_patients(10, grades=2))


@pytest.fixture(scope="module")
def truth(corpus: Path, tmp_path_factory: pytest.TempPathFactory, impatient: Cluster) -> StageResult:
    return run(corpus, str(tmp_path_factory.mktemp("truth")), impatient)


def run(root: Path | str, store: str, cluster: Cluster) -> StageResult:
    spec = Spec.model_validate(
        {
            "name": "s3",
            "store": store,
            "corpus": {"adapter": "eyepacs", "root": root, "classes": ["0", "1"]},
            "ingest": {"size": 16, "shard_size": 5},
            "teachers": [{"name": "t", "model": "micro"}],
            "student": {"model": "micro"},
        }
    )
    return ingest(Context(open_store(store), cluster, spec.run), spec)


def wrong_objects(folder: Path) -> list[str]:
    """Objects on the server whose bytes are not those that their names promise."""
    found = []
    for path in folder.rglob("*-*.*"):
        digits = path.stem.rpartition("-")[2]
        if path.suffix in (".tar", ".parquet") and not sha256_bytes(path.read_bytes()).startswith(digits):
            found.append(str(path))
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_writes_are_repeated_until_the_store_is_complete(
    fault: str, corpus: Path, truth: StageResult, s3_server: S3Server, fault_proxy: FaultProxy, impatient: Cluster
) -> None:
    bucket = s3_server.bucket()
    for key in WRITES:
        fault_proxy.fail(fault, "PUT", key)
    result = run(corpus, s3_server.url(bucket, "store", endpoint=fault_proxy.endpoint), impatient)
    assert fault_proxy.waiting == []
    assert result.manifest.digest == truth.manifest.digest
    assert verify(open_store(s3_server.url(bucket, "store"))).sound
    assert wrong_objects(s3_server.folder / bucket) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_reads_are_repeated(
    fault: str, corpus: Path, truth: StageResult, s3_server: S3Server, fault_proxy: FaultProxy, impatient: Cluster
) -> None:
    url = s3_server.url(s3_server.bucket(), "store", endpoint=fault_proxy.endpoint)
    run(corpus, url, impatient)
    for key in ("*/heads/*", "*/manifests/*", "*/listings/*", *([""] if fault != "wrong" else [])):
        fault_proxy.fail(fault, "GET", key)
    again = run(corpus, url, impatient)
    assert fault_proxy.waiting == []
    assert (again.made, again.manifest.digest) == (0, truth.manifest.digest)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "lost"])
def test_a_fault_that_stays_stops_the_run_and_names_the_object(
    fault: str, corpus: Path, truth: StageResult, s3_server: S3Server, fault_proxy: FaultProxy, impatient: Cluster
) -> None:
    bucket = s3_server.bucket()
    url = s3_server.url(bucket, "store", endpoint=fault_proxy.endpoint)
    fault_proxy.fail(fault, "PUT", "*/train-00001-*", times=-1)
    with pytest.raises(StillroomError, match="train-00001-"):
        run(corpus, url, impatient)
    assert wrong_objects(s3_server.folder / bucket) == []
    fault_proxy.clear()
    assert run(corpus, url, impatient).manifest.digest == truth.manifest.digest


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_in_s3_is_read_through_faults(
    fault: str,
    corpus: Path,
    truth: StageResult,
    tmp_path: Path,
    s3_server: S3Server,
    fault_proxy: FaultProxy,
    impatient: Cluster,
) -> None:
    bucket = s3_server.bucket()
    for path in (p for p in corpus.rglob("*") if p.is_file()):
        place = s3_server.file(bucket, f"eyepacs/{path.relative_to(corpus)}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    # A listing carries no digest: a wrong byte in a date of it harms nobody and is not asked for again.
    for key in ("*.jpeg", "*.csv", *([""] if fault != "wrong" else [])):
        fault_proxy.fail(fault, "GET", key, times=2)
    result = run(s3_server.url(bucket, "eyepacs", endpoint=fault_proxy.endpoint), str(tmp_path / "store"), impatient)
    assert fault_proxy.waiting == []
    assert result.manifest.digest == truth.manifest.digest
    assert verify(LocalStore(tmp_path / "store")).sound
