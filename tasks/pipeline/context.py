"""What every stage of a run shares: store, cluster, settings of the run, progress, messages, stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import UsageError
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.spec import RunSection

Progress = Callable[[int, int], None]
Message = Callable[[str], None]
Stop = Callable[[], bool]


def _no_progress(done: int, total: int) -> None:
    pass


def _no_message(text: str) -> None:
    pass


def _no_stop() -> bool:
    return False


@dataclass(frozen=True)
class Context:
    """The surroundings of a stage; nothing of it enters a key.

    Attributes:
        store: where everything is read and written.
        cluster: started by the first stage that needs a worker.
        run: the section `run:` of the spec: attempts, verification, device, batch sizes.
        progress: called with (units done, units in all).
        message: called with a line for people; may be called from any thread.
        stop: asked now and then; work ends with CancelledError once it says yes.
        run_id: id of the flow run; "" outside of one.
    """

    store: Store
    cluster: Cluster = field(default_factory=lambda: Cluster(ClusterSection()))
    run: RunSection = field(default_factory=RunSection)
    progress: Progress = _no_progress
    message: Message = _no_message
    stop: Stop = _no_stop
    run_id: str = ""

    @cached_property
    def cache(self) -> StageCache:
        """Lookups and commits over the store."""
        return StageCache(self.store)

    def place(self) -> tuple[str, dict[str, float] | None]:
        """Device and Dask resources of heavy work, by `run.device`: on a worker that offers the device.

        Raises:
            UsageError: `run.device: cuda` and no worker offers the resource GPU.
        """
        if self.run.device == "cpu":
            return "cpu", None
        if self.cluster.offers("GPU"):
            return "cuda", {"GPU": 1}
        if self.run.device == "cuda":
            raise UsageError(
                "run.device is cuda, but no Dask worker offers the resource GPU; start workers with "
                "--resources GPU=1, or set run.device: auto"
            )
        return "cpu", None
