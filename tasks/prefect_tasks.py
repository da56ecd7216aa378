"""The Prefect task of every step: a thin wrapper, no computing, Prefect's own cache off.

Our cache decides: a state named `Cached` says that every output of the stage was found in the store. Parameters of a
task are plain values and references; store, cluster and spec are found through a context variable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed
from prefect.tasks import Task

from infra.errors import CancelledError, CorruptError, is_transient
from infra.servers.telling import tell
from infra.storage.manifest import Manifest
from tasks.drawing.markdown import cell_text
from tasks.pipeline.context import Context, Message, Stop
from tasks.pipeline.graph import Step
from tasks.pipeline.stage import Artifact, Stage, run_stage, slug
from tasks.pipeline.surroundings import Listener
from tasks.pipeline.together import Together
from tasks.spec import Spec

SECONDS_BETWEEN_UPDATES = 2.0
WIDEST_TABLE = 90
"""Characters of a row that Prefect's pages show side by side."""

SECONDS_BETWEEN_LOOKS = 0.5

RETRY_SECONDS = (2.0, 20.0, 120.0)
"""Before the first, second and every further retry of a step: together longer than a server's restart."""


@dataclass(frozen=True)
class Ref:
    """A small reference to a committed manifest; all that travels between Prefect tasks."""

    stage: str
    key: str
    digest: str


@dataclass
class Run:
    """What the tasks of one flow run share."""

    spec: Spec
    context: Context
    listener: Listener
    stages: dict[str, Stage] = field(default_factory=dict)
    together: dict[str, Together] = field(default_factory=dict)

    def manifest(self, ref: Ref) -> Manifest:
        """The manifest that a reference names."""
        hit = self.context.cache.lookup(ref.stage, ref.key)
        if hit is None or hit.manifest.digest != ref.digest:
            raise CorruptError(f"the {ref.stage} manifest {ref.key[:12]} changed or vanished during the run")
        return hit.manifest


_RUN: ContextVar[Run] = ContextVar("run")


@contextmanager
def running(run: Run, steps: Iterable[Step]) -> Iterator[None]:
    """Make `run` known to the tasks that are submitted inside."""
    steps = list(steps)
    for step in steps:
        run.stages[step.stage.name] = step.stage
    for name, stage in run.stages.items():
        count = sum(step.stage.name == name for step in steps)
        if stage.share is not None and count > 1:
            run.together[name] = Together(stage.share, count)
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


def may_retry(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question after a failure: only transient errors are worth another try."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)


@task(
    task_run_name="{label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=may_retry,
)
def run_step(
    label: str, stage: str, inputs: Mapping[str, Ref | list[Ref]], parameters: Mapping[str, Any]
) -> State[Ref]:
    """Run one step of the line; the state is `Cached` or `Completed`, its data a reference, or `Cancelled`.

    Args:
        label: names the step for people.
        stage: name of a stage of the line.
        inputs: manifests that it reads.
        parameters: plain values.
    """
    run, began = _RUN.get(), time.monotonic()
    logger = get_run_logger()

    def message(text: str) -> None:
        logger.info(text)
        run.listener.message(text)

    if not _waited(run.context.stop, message):
        return Cancelled(message="stopped on request")
    with _Progress(label, run.listener) as progress:
        context = replace(run.context, progress=progress, message=message)
        manifests = {
            name: [run.manifest(one) for one in given] if isinstance(given, list) else run.manifest(given)
            for name, given in inputs.items()
        }
        work = run.stages[stage].bind(context, run.spec, **manifests, **parameters)
        try:
            if stage in run.together:
                run.together[stage].join(work)
            result = run_stage(work)
        except CancelledError as error:
            return Cancelled(message=str(error))
    for artifact in work.artifacts(result, time.monotonic() - began):
        publish(artifact)
    state = "Cached" if result.cached else "Completed"
    made = result.manifest
    text = "; ".join(filter(None, (result.message, work.says(made))))
    run.listener.ended(label, state, text)
    return Completed(name=state, message=text, data=Ref(made.stage, made.key, made.digest))


def _waited(stop: Stop, message: Message) -> bool:
    """Wait before a retry; False when the run was asked to stop meanwhile, which Prefect's own delay does not hear."""
    context = TaskRunContext.get()
    retry = context.task_run.run_count - 1 if context else 0
    if retry < 1:
        return True
    seconds = RETRY_SECONDS[min(retry, len(RETRY_SECONDS)) - 1]
    message(f"tried again in {seconds:g} s")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stop():
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def submit(step: Step, futures: Mapping[Step, PrefectFuture[Any] | Ref], retries: int) -> PrefectFuture[Any]:
    """Start the task of a step once the tasks of all that it waits for have ended.

    Args:
        futures: of the steps that it waits for; references where manifests stand in for steps that do not run.
        retries: of transient errors.
    """
    inputs = {
        name: futures[given] if isinstance(given, Step) else [futures[one] for one in given]
        for name, given in step.inputs.items()
    }
    # Until a task begins, pages show its name with some letters behind it.
    named: Task[Any, Any] = run_step.with_options(name=step.label, retries=retries)
    after = [futures[one] for one in step.after]
    return named.submit(step.label, step.stage.name, inputs, dict(step.parameters), wait_for=after)


def publish(artifact: Artifact) -> None:
    """Create an artifact of the task or flow that runs; waits for an API that is gone, and does without it."""
    content = artifact.content
    if not isinstance(content, str) and _widest(content) > WIDEST_TABLE:
        # Prefect's own table does not break lines: what stands on the right of it is not seen.
        content = markdown_table(content)

    def create() -> Any:
        if isinstance(content, str):
            create_markdown_artifact(key=artifact.key, markdown=content, description=artifact.description)
        else:
            create_table_artifact(key=artifact.key, table=content, description=artifact.description)

    tell(create, artifact.key)


def _widest(rows: list[dict[str, str]]) -> int:
    return max((sum(len(str(value)) for value in row.values()) for row in rows), default=0)


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table; a column that a row lacks is empty there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(cell_text(str(one)) for one in line) + " |" for line in cells) + "\n"


class _Progress:
    """Keeps Prefect's progress artifact and the listener up to date, a few times a minute at most."""

    def __init__(self, label: str, listener: Listener) -> None:
        self.label, self.listener = label, listener
        self.done, self.total = 0, 1
        self._id: Any = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._update, name=f"progress-{label}", daemon=True)

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, max(1, total)
        self.listener.progress(self.label, done, total)

    @property
    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total)

    def _update(self) -> None:
        shown = 0.0
        while not self._over.wait(SECONDS_BETWEEN_UPDATES):
            if self.percent != shown:
                shown = self.percent
                self._tell(shown)

    def _tell(self, percent: float) -> None:
        """Set the artifact, which is made where the API did not answer before."""
        if self._id is None:
            self._id = tell(partial(self._create, percent), f"progress of {self.label}", wait=False)
        else:
            update = partial(update_progress_artifact, artifact_id=self._id, progress=percent)
            tell(update, f"progress of {self.label}", wait=False)

    def _create(self, percent: float) -> Any:
        return create_progress_artifact(progress=percent, key=slug(self.label), description=self.label)

    def __enter__(self) -> _Progress:
        self._tell(0.0)
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._over.set()
        self._thread.join(30)
        self._tell(100.0 if kind is None else self.percent)
