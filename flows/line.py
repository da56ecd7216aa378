"""The line: which stage waits for which. Every flow runs it up to its own stage; what is cached is skipped."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.utilities.annotations import quote

from infra.compute.cluster import Cluster
from infra.errors import CancelledError, StillroomError
from infra.servers.runs import StopWatch
from infra.storage.store import open_store
from tasks.maintenance.holdings import RUNS
from tasks.maintenance.reach import run_record
from tasks.pipeline.staging import Line, Listener, Ref
from tasks.prefect_tasks import (
    distill_task,
    evaluate_task,
    ingest_task,
    label_task,
    register_task,
    select_task,
    show_report,
    teach_task,
)
from tasks.spec import Spec, TeacherSection, load_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT

STAGES = ("ingest", "label", "distill", "evaluate", "register")
SETTLE_SECONDS = 30.0


@dataclass
class Outcome:
    """What a run made; `to_json` is what `--json` prints."""

    spec: Spec
    stages: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    flow_run: str | None = None
    report: str | None = None

    @property
    def cached(self) -> bool:
        """Whether every stage was found."""
        return all(stage["state"] == "Cached" for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "name": self.spec.name,
            "store": self.spec.store,
            "corpus": self.spec.corpus.title,
            "cached": self.cached,
            "stages": self.stages,
            "results": self.facts,
            "report": self.report,
            "flow_run": self.flow_run,
        }


# The command line shows progress; a flow that a schedule starts has nobody to show it to.
_listener: Listener = Listener()


def listen(listener: Listener) -> None:
    """Who hears of progress in this process."""
    global _listener
    _listener = listener


def run_name() -> str:
    """Name of a flow run in the pages: the spec's file, without its folders."""
    return Path(str(flow_run.parameters["spec"])).stem


def run_line(spec_path: str, overrides: list[str] | None, upto: str) -> dict[str, Any] | State[Any]:
    """Run the stages up to `upto` inside a flow; the JSON of the outcome, or Cancelled when asked to stop."""
    spec = load_spec(spec_path, overrides or [])
    context = FlowRunContext.get()
    run_id = context.flow_run.id if context and context.flow_run else None
    outcome = Outcome(spec, flow_run=str(run_id) if run_id else None)
    try:
        # The tag that names our process belongs to the flow run; on every task run it would be noise.
        quiet = TagsContext(current_tags=set())
        with quiet, StopWatch(run_id) as watch, Cluster(spec.run.cluster) as cluster:
            runs = _Runs(Line(spec, open_store(spec.store), cluster, _listener, watch.requested), outcome)
            try:
                _stages(runs, upto)
            except BaseException:
                # Stages work in threads that an interrupt does not reach: ask them to stop, or they run on.
                watch.ask()
                runs.settle()
                raise
    except CancelledError:
        return Cancelled(message="stopped on request; what was made stays in the store")
    return outcome.to_json()


def _stages(runs: _Runs, upto: str) -> None:
    line, outcome, spec = runs.line, runs.outcome, runs.line.spec
    until = STAGES.index(upto)
    corpus = runs.start("ingest", ingest_task, title=spec.corpus.title)
    if until < 1:
        return runs.finish()
    trained = {t.name: _teach(runs, t, corpus) for t in spec.teachers if t.train}
    names = [t.name for t in spec.teachers]
    labels = runs.start(
        [f"label {name}" for name in names], label_task, names=", ".join(names), corpus=corpus, trained=trained
    )
    if until < 2:
        return runs.finish()
    select = runs.start("select", select_task, corpus=corpus, labels=labels)
    arms = [TAUGHT, LABELS_ONLY] if spec.evaluate.compare else [TAUGHT]
    students = [
        runs.start(
            f"distill {arm} seed {seed}",
            distill_task,
            corpus=corpus,
            labels=labels,
            select=select,
            arm=arm,
            seed=seed,
            trained=trained,
        )
        for arm in arms
        for seed in spec.student.seeds
    ]
    if until < 3:
        return runs.finish()
    models = [*students, *(whole for whole, *_ in trained.values())]
    report = runs.start("evaluate", evaluate_task, corpus=corpus, models=models)
    if until >= 4:
        runs.start(
            "register",
            register_task,
            name=spec.register_.name or spec.name,
            corpus=corpus,
            report=report,
            models=models,
            labels=labels,
            select=select,
        )
    runs.finish()
    made = line.manifest(report.result())
    page = made.output(kind="report")
    outcome.report = str(line.store.local_path(page.name))
    show_report(spec.name, _with_places(line, page.name, outcome))
    return None


def _teach(runs: _Runs, teacher: TeacherSection, corpus: PrefectFuture[Any]) -> list[PrefectFuture[Any]]:
    """The whole teacher, then one for each fold."""
    name, count = teacher.name, teacher.folds or 0
    whole = runs.start(f"teach {name}", teach_task, corpus=corpus, teacher=name)
    parts = [f" without fold {fold + 1} of {count}" for fold in range(count)]
    return [
        whole,
        *(
            runs.start(f"teach {name}{part}", teach_task, corpus=corpus, teacher=name, part=part, fold=(fold, count))
            for fold, part in enumerate(parts)
        ),
    ]


class _Runs:
    """Submits stages and gathers how they ended."""

    def __init__(self, line: Line, outcome: Outcome) -> None:
        self.line, self.outcome = line, outcome
        self._futures: list[tuple[list[str], PrefectFuture[Any]]] = []

    def start(self, name: str | list[str], stage: Any, /, **arguments: Any) -> PrefectFuture[Any]:
        """Submit a stage; several names where it makes several manifests, in their order."""
        task = stage.with_options(retries=self.line.spec.run.retries)
        # quote: Prefect must not walk through the line in search of futures.
        future = task.submit(quote(self.line), **arguments)
        self._futures.append(([name] if isinstance(name, str) else name, future))
        return future

    def settle(self) -> None:
        """Give stages that were asked to stop the time to do so."""
        for _, future in self._futures:
            future.wait(SETTLE_SECONDS)

    def finish(self) -> None:
        """Wait for all; raise the error of the first stage that failed by itself."""
        for _, future in self._futures:
            future.wait()
        for titles, future in self._futures:
            state = future.state
            if state.is_failed() or state.is_crashed() or state.is_cancelled():
                with suppress(StillroomError):
                    self._record()
                error = state.result(raise_on_failure=False)
                raise error if isinstance(error, BaseException) else RuntimeError(f"{titles[0]}: {state}")
        self._record()
        for titles, future in self._futures:
            for title, ref in zip(titles, _refs(future), strict=True):
                self.outcome.facts[title] = self.line.manifest(ref).facts
                self.outcome.stages.append(
                    {
                        "stage": title,
                        "state": ref.state or future.state.name,
                        "message": ref.message or future.state.message,
                        "manifest": ref.key,
                        "digest": ref.digest,
                    }
                )

    def _record(self) -> None:
        """Leave in the store what this run ended with, whole or not: gc keeps it for a while."""
        refs = [ref for _, future in self._futures if future.state.is_completed() for ref in _refs(future)]
        name = f"{RUNS}{self.outcome.flow_run}.json"
        self.line.store.put(name, run_record(self.line.spec.name, [(ref.stage, ref.key) for ref in refs]))


def _refs(future: PrefectFuture[Any]) -> list[Ref]:
    """What a stage made: one reference, or several."""
    found = future.result()
    return list(found) if isinstance(found, list) else [found]


def without_pictures(markdown: str) -> str:
    """The report where its plots cannot be shown: without their section."""
    kept, _, rest = markdown.partition("\n## Plots\n")
    later = rest.partition("\n## ")
    return kept.rstrip() + "\n" + (f"\n## {later[2]}" if later[1] else "")


def _with_places(line: Line, page: str, outcome: Outcome) -> str:
    text = without_pictures(line.store.get(page).decode())
    folder = f"{line.store.url.partition('?')[0]}/{page.rpartition('/')[0]}"
    lines = [text.rstrip(), "", "## Where to look", "", f"- report and plots: `{folder}`"]
    version = outcome.facts.get("register")
    if version:
        from infra.servers.tracking import tracking_uri

        lines.append(
            f"- MLflow: model `{version['name']}` version {version['version']}, run `{version['run_id']}`, "
            f"tracking `{tracking_uri()}`"
        )
    return "\n".join(lines) + "\n"
