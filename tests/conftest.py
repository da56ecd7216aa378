"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.settings import reload_settings
from infra.storage.store import LocalStore, Store, open_store
from tests.databases import FOLDER, copy_databases, shared_api
from tests.s3server import FaultProxy, S3Server, environment

# The same examples on every run; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("search", deadline=None)
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

# Read when torch is loaded, which is later. OpenMP's threads wait by spinning: where other processes want the cores,
# they spin on time that the thread they wait for needs, and small networks take three times the CPU.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_finish() -> None:
    """What collecting made stays to the end: no later search for reference cycles looks through it."""
    gc.collect()
    gc.freeze()


class ByFile(LoadScopeScheduling):
    """A file stays on one worker; so do the files that look at the line's first run, which takes a minute."""

    FIRST_RUN = ("test_pages", "test_retrain", "test_stop", "test_store_commands")

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        return "first run" if file.parent.name == "flows" and file.stem in self.FIRST_RUN else str(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """What `--dist loadfile` means here."""
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> None:
    """A suite that a shell started in the background ignores SIGINT, and so would all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with nothing set but its home."""
    for name in ("STILLROOM_MLFLOW_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "home"))
    reload_settings()
    yield tmp_path / "home"
    monkeypatch.undo()
    reload_settings()


@pytest.fixture
def migrated_home(home: Path) -> Path:
    """A machine on which Prefect and MLflow have run before."""
    copy_databases(home)
    return home


@pytest.fixture
def real_data() -> Path:
    """The folder of real subsets; the test skips, saying so, where there is none."""
    folder = os.environ.get("STILLROOM_REAL_DATA")
    if not folder:
        pytest.skip("STILLROOM_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def s3_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys of the test server, a cache of our own and short pauses, for this process and all that it starts."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    ours = {
        "STILLROOM_CACHE": str(tmp_path_factory.mktemp("s3-cache")),
        "STILLROOM_HOME": str(tmp_path_factory.mktemp("home")),
        "STILLROOM_S3_BACKOFF": "0.01",
        "STILLROOM_PATIENCE": "0",  # tests of servers that come back set it
        # Processes of one run of the suite have sibling folders.
        FOLDER: str(shared / "databases"),
    }
    # A Dask nanny sets PYTHONSAFEPATH in this process, after which `python -m tests...` would not find the tests.
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment(), **ours}.items():
            patch.setenv(name, value)
        reload_settings()
        yield
    reload_settings()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect API that commands share, for tests that are not about how it starts and ends; its URL."""
    with shared_api(tmp_path_factory.mktemp("api")) as url:
        yield url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server over a folder."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.close()


@pytest.fixture
def s3_store(s3_server: S3Server) -> Store:
    """An empty store in a bucket of its own."""
    return open_store(s3_server.url(s3_server.bucket(), "store"))


@pytest.fixture(scope="session")
def _proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def fault_proxy(_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """A proxy before the S3 server that breaks nothing yet."""
    _proxy.clear()
    yield _proxy
    _proxy.clear()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty local store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real local Dask cluster of two worker processes."""
    with Cluster(ClusterSection(workers=2)) as handle:
        yield handle
