"""From a plain stage function to a Prefect state: cached or made, with progress that people can see."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from infra.compute.cluster import Cluster
from infra.errors import CorruptError, is_transient
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.pipeline.result import StageResult
from tasks.spec import Spec

SECONDS_BETWEEN_UPDATES = 2.0


class Listener:
    """Hears of progress and ends; the command line shows them on the terminal."""

    def progress(self, title: str, done: int, total: int) -> None:
        """`done` of `total` units of a stage."""

    def say(self, text: str) -> None:
        """Something worth knowing while a stage works."""

    def ended(self, title: str, state: str, message: str) -> None:
        """A stage ended."""


@dataclass(frozen=True)
class Ref:
    """A small reference to a committed manifest; all that travels between Prefect tasks."""

    stage: str
    key: str
    digest: str
    state: str = ""  # Cached or Completed, where one task made several manifests
    message: str = ""


@dataclass(frozen=True)
class Line:
    """What every stage of a run shares."""

    spec: Spec
    store: Store
    cluster: Cluster
    listener: Listener = field(default_factory=Listener)
    stop: Callable[[], bool] = lambda: False

    def manifest(self, ref: Ref) -> Manifest:
        """The manifest that a reference names."""
        hit = StageCache(self.store).lookup(ref.stage, ref.key)
        if hit is None or hit.manifest.digest != ref.digest:
            raise CorruptError(f"the {ref.stage} manifest {ref.key[:12]} changed or vanished during the run")
        return hit.manifest


class _Progress:
    """Keeps Prefect's progress artifact and the listener up to date, a few times a minute at most."""

    def __init__(self, title: str, listener: Listener) -> None:
        self.title, self.listener = title, listener
        self.done, self.total = 0, 1
        self._id: Any = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._update, name=f"progress-{title}", daemon=True)

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, max(1, total)
        self.listener.progress(self.title, done, total)

    @property
    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total)

    def _update(self) -> None:
        shown = 0.0
        while not self._over.wait(SECONDS_BETWEEN_UPDATES):
            if self.percent != shown:
                shown = self.percent
                update_progress_artifact(artifact_id=self._id, progress=shown)

    def __enter__(self) -> _Progress:
        self._id = create_progress_artifact(progress=0.0, key=slug(self.title), description=self.title)
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._over.set()
        self._thread.join(30)
        update_progress_artifact(artifact_id=self._id, progress=100.0 if kind is None else self.percent)


def staged(
    line: Line,
    title: str,
    call: Callable[[Callable[[int, int], None], Callable[[], bool]], StageResult],
    *,
    then: Callable[[StageResult], None] | None = None,
) -> State[Ref]:
    """Run a stage inside a Prefect task and describe how it ended (DESIGN: In Prefect).

    Args:
        title: what people read.
        call: gets a progress callback and a stop question; returns the stage's result.
        then: what else to show of the result, such as an artifact.
    """
    with _Progress(title, line.listener) as progress:
        result = call(progress, line.stop)
    if then is not None:
        then(result)
    return _ended(line, title, result, Ref(result.manifest.stage, result.manifest.key, result.manifest.digest))


def staged_together(
    line: Line,
    title: str,
    call: Callable[[Callable[[int, int], None], Callable[[], bool]], list[StageResult]],
    *,
    then: Callable[[list[StageResult]], None] | None = None,
) -> State[list[Ref]]:
    """Like `staged`, for a stage that makes several manifests at once; each reference says how its own ended."""
    with _Progress(title, line.listener) as progress:
        results = call(progress, line.stop)
    if then is not None:
        then(results)
    refs = [
        Ref(r.manifest.stage, r.manifest.key, r.manifest.digest, "Cached" if r.cached else "Completed", r.message)
        for r in results
    ]
    made, total = sum(r.made for r in results), sum(r.total for r in results)
    return _ended(line, title, StageResult(results[0].manifest, made, total), refs)


def _ended(line: Line, title: str, result: StageResult, data: Any) -> State[Any]:
    state = "Cached" if result.cached else "Completed"
    line.listener.ended(title, state, result.message)
    return Completed(name=state, message=result.message, data=data)


def slug(text: str) -> str:
    """An artifact key: small letters, digits and dashes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")


def may_retry(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question after a failure: only transient errors are worth another try."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)
