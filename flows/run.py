"""One run of the line as Prefect tasks: submit the steps, wait, say how each ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled

from flows.approval import approval
from flows.decision import decide
from flows.glance import LiveGlance, emit_results, glance, glance_page
from flows.interrupts import Deadline
from flows.line import line
from flows.links import Links
from flows.output import STOPPED
from flows.report_page import report_page
from flows.step_times import StepTimes
from infra.compute.cluster import Cluster
from infra.errors import CancelledError, StillroomError, is_transient
from infra.patience import patiently
from infra.servers.flow_runs import StopWatch, is_scheduled, mark_cancelled, mark_tasks_cancelled, own_this_run
from infra.servers.process_tag import process_tag
from infra.servers.telling import tell
from infra.servers.tracking_check import check_tracking
from infra.storage.manifest import Manifest
from infra.storage.store import open_store
from tasks.combine.members import check_before_ingest
from tasks.combine.stage import COMBINE
from tasks.drift.production import log_digest
from tasks.drift.stage import DRIFT
from tasks.gate.stage import GATE
from tasks.ingest.stage import INGEST
from tasks.maintenance.under_way import RunRecord
from tasks.pipeline.context import Context
from tasks.pipeline.graph import Step
from tasks.pipeline.stage import Artifact, slug
from tasks.pipeline.surroundings import SURROUNDINGS, Surroundings
from tasks.planning.network_check import STAGES as NETWORK_STAGES
from tasks.planning.network_check import check_networks
from tasks.prefect_tasks import Ref, Run, publish, running, submit
from tasks.register.stage import REGISTER
from tasks.spec import Spec

SECONDS_TO_STOP = 10.0
"""For all steps together to stop after they were asked to."""

SECONDS_TO_TELL = 3.0
"""For steps that stop to tell those that wait for them, once the cluster is closed."""


@dataclass
class RunResult:
    """What a run made; `to_json` is what `--json` prints."""

    spec: Spec
    stages: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    flow_run: str | None = None
    report: str | None = None
    glance: dict[str, Any] = field(default_factory=dict)

    @property
    def cached(self) -> bool:
        """Whether every stage was found."""
        return all(stage["state"] == "Cached" for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "name": self.spec.name,
            "store": self.spec.store,
            "corpus": self.spec.corpus_title,
            "cached": self.cached,
            "stages": self.stages,
            "results": self.facts,
            "report": self.report,
            "glance": self.glance,
            "flow_run": self.flow_run,
        }


def run_line(spec: Spec, upto: str, *, stop_when_unchanged: bool = False) -> dict[str, Any] | State[Any]:
    """Run the steps of stage `upto` and all that they wait for, inside a flow.

    Args:
        stop_when_unchanged: end after the ingest when it found nothing new.

    Returns:
        The JSON of the result, or the state Cancelled when the run was asked to stop.

    Raises:
        UsageError: the line has no such stage.
        StillroomError: of the first step that failed by itself; or MLflow would not take the student.
    """
    flow, began = FlowRunContext.get(), time.monotonic()
    own_this_run(flow.flow_run if flow else None)
    graph = line(spec)
    steps = graph.up_to(upto)
    around = SURROUNDINGS.get(Surroundings())
    if any(step.stage.name in NETWORK_STAGES for step in steps):
        for note in check_networks(spec):
            around.listener.message(note)
    run_id = flow.flow_run.id if flow and flow.flow_run else None
    # The process of a scheduled run is its alone, and nobody else ends it before its worker kills it.
    deadline = Deadline(lambda: mark_cancelled(process_tag(), asked=True))
    stopping = deadline.begin if is_scheduled() else around.stopping
    result = RunResult(spec, flow_run=str(run_id) if run_id else None)
    if any(step.stage is REGISTER for step in steps):
        # No hour of training ends where nobody takes its student.
        _reached(lambda: check_tracking(spec.name, spec.register_.name or spec.name))
    _reached(lambda: check_before_ingest(spec, open_store(spec.store)))
    log = spec.drift.predictions
    if log is not None and any(step.stage is DRIFT for step in steps):
        # A log that is not there fails at once, and not after hours of training.
        _reached(lambda: log_digest(log, open_store(spec.store)))
    tasks: _Tasks | None = None
    times = StepTimes(spec.name)
    times.expect(steps)
    live = LiveGlance(spec.name, times)
    try:
        # The tag that names our process belongs to the flow run; on every task run it would be noise.
        quiet = TagsContext(current_tags=set())
        shared = nullcontext(around.cluster) if around.cluster is not None else Cluster(spec.run.cluster)
        with quiet, StopWatch(run_id, stopping) as watch, shared as cluster, ExitStack() as opened:
            stop = lambda: watch.requested() or around.stop()  # noqa: E731
            context = Context(open_store(spec.store), cluster, spec.run, stop=stop, run_id=str(run_id or ""))
            # Before anything is looked up: from here on gc removes nothing.
            record = opened.enter_context(RunRecord(context.store, str(run_id), spec.name, stop))
            tasks = _Tasks(Run(spec, context, around.listener), result, record, times, live)
            links = Links(spec, context)
            links.begin()
            try:
                first = [step for step in steps if step.stage in (INGEST, COMBINE)]
                tasks.run(first)
                ingested = [tasks.manifest(step) for step in first if step.stage is INGEST]
                decision = None
                if len(steps) > len(first) and not (stop_when_unchanged and result.cached):
                    decision = decide(spec, context.store, steps, ingested, upto)
                    around.listener.message(decision.why)
                    later = [step for step in graph.up_to(decision.upto) if step not in first]
                    later = [step for step in later if not tasks.stand_in(step, decision.found.get(step.title))]
                    times.expect(later)
                    live.decided(decision.why)
                    tasks.run(later)
            except BaseException as error:
                if not isinstance(error, Exception):
                    stopping()
                # Steps work in threads that an interrupt does not reach: ask them to stop, or they run on.
                watch.request()
                tasks.settle()
                raise
            tasks.publish_report()
            links.end(result.facts, tasks.manifests())
            busy = times.device_seconds
            count, devices = _devices(spec, cluster) if busy else (0, "")
            result.glance = glance(
                context.store,
                ingested,
                decision,
                result.stages,
                result.facts,
                time.monotonic() - began,
                approval=approval(
                    spec.register_.promote, result.facts.get(REGISTER.name), result.facts.get(GATE.name, {})
                ),
                device_hours=busy * count / 3600,
                devices=devices,
            )
            live.finished(glance_page(spec.name, result.glance))
            emit_results(spec.name, result.glance)
    except BaseException as error:
        # Only now, without a cluster, no step goes on that would say something else of those that wait for it.
        if tasks is not None and (isinstance(error, CancelledError) or not isinstance(error, Exception)):
            tasks.mark_cancelled()
        live.stopped(str(error).partition("\n")[0] or type(error).__name__)
        deadline.stopped()
        if isinstance(error, CancelledError | KeyboardInterrupt):
            return Cancelled(message=STOPPED)
        raise
    return result.to_json()


def _reached(check: Callable[[], object]) -> None:
    """Check that servers are there; a scheduled run waits for one that is gone, a person is told at once."""
    if is_scheduled():
        patiently(check, is_transient)
    else:
        check()


def _devices(spec: Spec, cluster: Cluster) -> tuple[int, str]:
    """How many devices a cluster that worked for a run has, and what they are; (0, "") where it does not tell."""
    try:
        workers = cluster.workers()
    # The work is done: a scheduler that is gone by now ends no run.
    except Exception:
        return 0, ""
    gpus = 0 if spec.run.device == "cpu" else sum(int(one["resources"].get("GPU", 0)) for one in workers)
    if gpus:
        return gpus, f"{gpus} GPU{'s' * (gpus > 1)}"
    hosts = len({one["host"] for one in workers})
    return hosts, f"{hosts} machine{'s' * (hosts > 1)} without a GPU"


class _Tasks:
    """Prefect tasks of a run, and how they ended."""

    def __init__(self, run: Run, result: RunResult, record: RunRecord, times: StepTimes, live: LiveGlance) -> None:
        self._of, self._result, self._run_record = run, result, record
        self._times, self._live = times, live
        self._futures: dict[Step, PrefectFuture[Any]] = {}
        self._found: dict[Step, Ref] = {}

    def stand_in(self, step: Step, manifest: Manifest | None) -> bool:
        """Let a manifest stand in for a step that does not run; False where there is none."""
        if manifest is not None:
            self._found[step] = Ref(manifest.stage, manifest.key, manifest.digest)
        return manifest is not None

    def run(self, steps: Sequence[Step]) -> None:
        """Submit steps and wait for all; raise the error of the first that failed by itself."""
        with running(self._of, steps):
            for step in steps:
                self._futures[step] = submit(step, {**self._found, **self._futures}, self._of.spec.run.retries)
            for step in steps:
                self._futures[step].wait()
                state = self._futures[step].state
                self._times.ended(step, made=state.is_completed() and state.name != "Cached")
                self._live.ended(step, state.name or state.type.value)
        states = {step: self._futures[step].state for step in steps}
        if any(not state.is_completed() for state in states.values()):
            with suppress(StillroomError):
                self._record()
        for step, state in states.items():
            if state.is_failed() or state.is_crashed():
                error = state.result(raise_on_failure=False)
                raise error if isinstance(error, BaseException) else RuntimeError(f"{step.title}: {state}")
        if any(state.is_cancelled() for state in states.values()):
            raise CancelledError(STOPPED)
        self._record()
        for step in steps:
            self._add(step, self._futures[step])

    def manifest(self, step: Step) -> Manifest:
        """What a step that has ended made or found."""
        return self._of.manifest(self._futures[step].result())

    def manifests(self) -> list[Manifest]:
        """What all steps made or found, once they have ended."""
        return [self.manifest(step) for step in self._futures]

    def settle(self, seconds: float = SECONDS_TO_STOP) -> None:
        """Give steps that were asked to stop the time to do so."""
        end = time.monotonic() + seconds
        for future in self._futures.values():
            future.wait(max(0.0, end - time.monotonic()))

    def mark_cancelled(self) -> None:
        """Say of the steps that a stopped run leaves unfinished that they are cancelled, too."""
        self.settle(SECONDS_TO_TELL)
        left = [future.task_run_id for future in self._futures.values() if not future.state.is_final()]
        tell(lambda: mark_tasks_cancelled(left, STOPPED), "steps that were cancelled", wait=False)

    def _add(self, step: Step, future: PrefectFuture[Any]) -> None:
        ref: Ref = future.result()
        self._result.facts[step.title] = self._of.manifest(ref).facts
        self._result.stages.append(
            {
                "stage": step.title,
                "state": future.state.name,
                "message": future.state.message,
                "manifest": ref.key,
                "digest": ref.digest,
            }
        )

    def _record(self) -> None:
        """Leave in the store what this run ended with, whole or not: gc keeps it for a while."""
        refs = [future.result() for future in self._futures.values() if future.state.is_completed()]
        self._run_record.add((ref.stage, ref.key) for ref in refs)

    def publish_report(self) -> None:
        """The report as an artifact of the flow run, where the run made one."""
        store, name = self._of.context.store, self._of.spec.name
        for future in self._futures.values():
            for output in self._of.manifest(future.result()).outputs_where(kind="report"):
                self._result.report = str(store.local_path(output.name))
                page = report_page(store, output.name, self._result.facts.get("register"))
                publish(Artifact(f"report-{slug(name)}", f"Report of {name}", page))
