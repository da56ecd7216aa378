"""The Prefect task of every stage: thin wrappers, no computing, Prefect's own cache off.

Our cache decides: a state named `Cached` says that every output of the stage was found in the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.tasks import exponential_backoff

from infra.storage.manifest import Manifest, Quarantined
from tasks.data.corpus import Corpus
from tasks.pipeline.result import StageResult
from tasks.pipeline.staging import Line, Ref, may_retry, slug, staged, staged_together

if TYPE_CHECKING:
    from tasks.teachers.teacher import TeacherHandle

_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retry_condition_fn": may_retry,
    "retry_delay_seconds": exponential_backoff(2),
}
SHOWN_QUARANTINE = 500


@task(name="ingest", task_run_name="ingest {title}", **_OPTIONS)
def ingest_task(line: Line, title: str) -> State[Ref]:
    """Raw files to shards and catalog; what cannot be read is listed in a table artifact."""
    from tasks.ingest.stage import ingest

    return staged(
        line,
        f"ingest {title}",
        lambda progress, stop: ingest(line.spec, line.store, line.cluster, progress=progress, stop=stop),
        then=lambda result: _show_quarantine(title, result.manifest.quarantine),
    )


@task(name="teach", task_run_name="fine-tune teacher {teacher}{part}", **_OPTIONS)
def teach_task(
    line: Line, corpus: Ref, teacher: str, part: str = "", fold: tuple[int, int] | None = None
) -> State[Ref]:
    """Fine-tune one teacher on the labels, or on those outside of one fold; `part` names the fold for people."""
    from tasks.distill.stage import teach

    spec = line.spec
    section = next(t for t in spec.teachers if t.name == teacher)
    count = sum(1 + (t.folds or 0) for t in spec.teachers if t.train is not None)
    say = _speaker(line)
    return staged(
        line,
        f"fine-tune teacher {teacher}{part}",
        lambda progress, stop: teach(
            Corpus(line.store, line.manifest(corpus)),
            section,
            spec,
            line.store,
            line.cluster,
            progress=progress,
            stop=stop,
            say=say,
            track=spec.run.train.track,
            side_by_side=count,
            fold=fold,
        ),
    )


@task(name="label", task_run_name="label with {names}", **_OPTIONS)
def label_task(line: Line, names: str, corpus: Ref, trained: dict[str, list[Ref]]) -> State[list[Ref]]:
    """Run the teachers over shards and views; write soft labels and the card of the run.

    Args:
        names: of the teachers, for people.
        trained: by teacher what fine-tuning made, the whole teacher first and then its folds.
    """
    from tasks.label.stage import label

    read = Corpus(line.store, line.manifest(corpus))
    handles = _handles(line, read, trained)
    began = time.monotonic()
    say = _speaker(line)
    return staged_together(
        line,
        f"label with {names}",
        lambda progress, stop: label(
            read, handles, line.spec.for_labels, line.store, line.cluster, progress=progress, stop=stop, say=say
        ),
        then=lambda results: _show_card(line, read, results, time.monotonic() - began),
    )


@task(name="select", task_run_name="select and calibrate", **_OPTIONS)
def select_task(line: Line, corpus: Ref, labels: list[Ref]) -> State[Ref]:
    """Turn soft labels into sample weights."""
    from tasks.select import select

    return staged(
        line,
        "select and calibrate",
        lambda progress, stop: select(
            Corpus(line.store, line.manifest(corpus)),
            [line.manifest(ref) for ref in labels],
            line.spec.select,
            line.store,
        ),
        then=lambda result: _show_selection(result.manifest, result.cached),
    )


@task(name="distill", task_run_name="student {arm} seed {seed}", **_OPTIONS)
def distill_task(
    line: Line,
    corpus: Ref,
    labels: list[Ref],
    select: Ref,
    arm: str,
    seed: int,
    trained: dict[str, list[Ref]] | None = None,
) -> State[Ref]:
    """Train one student.

    Args:
        trained: as `label_task`; read where teachers see each batch.
    """
    from tasks.distill.stage import distill

    spec = line.spec
    read = Corpus(line.store, line.manifest(corpus))
    online = _handles(line, read, trained or {}) if spec.student.teacher == "online" else []
    count = len(spec.student.seeds) * (2 if spec.evaluate.compare else 1)
    say = _speaker(line)
    return staged(
        line,
        f"student {arm} seed {seed}",
        lambda progress, stop: distill(
            read,
            [line.manifest(ref) for ref in labels],
            line.manifest(select),
            spec,
            line.store,
            line.cluster,
            arm=arm,
            seed=seed,
            teachers=online,
            progress=progress,
            stop=stop,
            say=say,
            track=spec.run.train.track,
            side_by_side=count,
        ),
    )


@task(name="evaluate", task_run_name="evaluate and compare", **_OPTIONS)
def evaluate_task(line: Line, corpus: Ref, models: list[Ref]) -> State[Ref]:
    """Students beside teachers and baselines; figures with intervals, plots, report."""
    from tasks.evaluate.stage import evaluate

    return staged(
        line,
        "evaluate and compare",
        lambda progress, stop: evaluate(
            Corpus(line.store, line.manifest(corpus)),
            [line.manifest(ref) for ref in models],
            line.spec,
            line.store,
            line.cluster,
            progress=progress,
            stop=stop,
        ),
    )


@task(name="register", task_run_name="register {name}", **_OPTIONS)
def register_task(
    line: Line, name: str, corpus: Ref, report: Ref, models: list[Ref], labels: list[Ref], select: Ref
) -> State[Ref]:
    """Register the best student in MLflow and move its alias."""
    from tasks.register.stage import register

    return staged(
        line,
        f"register {name}",
        lambda progress, stop: register(
            line.manifest(report),
            [line.manifest(ref) for ref in models],
            Corpus(line.store, line.manifest(corpus)),
            [line.manifest(ref) for ref in (*labels, select)],
            line.spec,
            line.store,
        ),
    )


def _speaker(line: Line) -> Callable[[str], None]:
    """Lines for people, to the task's log and to the terminal; may be called from any thread."""
    logger = get_run_logger()

    def say(text: str) -> None:
        logger.info(text)
        line.listener.say(text)

    return say


def _handles(line: Line, corpus: Corpus, trained: dict[str, list[Ref]]) -> list[TeacherHandle]:
    """Every teacher of the spec, ready to be asked."""
    from tasks.teachers.teacher import teacher_handle

    return [
        teacher_handle(section, [line.manifest(ref) for ref in trained.get(section.name, [])], corpus, line.store)
        for section in line.spec.teachers
    ]


def _show_selection(manifest: Manifest, cached: bool) -> None:
    """What was kept and dropped and why, as an artifact; a cached selection was shown before."""
    from tasks.select.page import page

    if not cached:
        create_markdown_artifact(key="selection", markdown=page(manifest), description="Weights of the pool")


def _show_card(line: Line, corpus: Corpus, results: list[StageResult], seconds: float) -> None:
    """The label card as an artifact; made only when something was labelled."""
    from tasks.label.card import Measured, label_card

    made, total = sum(result.made for result in results), sum(result.total for result in results)
    if made:
        measured = Measured(seconds, made, total - made, sum(result.samples for result in results))
        card = label_card(corpus, [result.manifest for result in results], measured, line.store)
        create_markdown_artifact(
            key=f"label-card-{slug(corpus.title)}", markdown=card.markdown, description=f"Label card of {corpus.title}"
        )


def show_report(title: str, markdown: str) -> None:
    """The report as an artifact of the flow run."""
    create_markdown_artifact(key=f"report-{slug(title)}", markdown=markdown, description=f"Report of {title}")


def _show_quarantine(title: str, rows: list[Quarantined]) -> None:
    table = [{"source": row.source, "reason": row.reason} for row in rows[:SHOWN_QUARANTINE]]
    create_table_artifact(
        key=f"quarantine-{slug(title)}",
        table=table or [{"source": "none", "reason": "every image could be read"}],
        description=f"{len(rows)} of {title}'s files are kept out"
        + (f"; the first {SHOWN_QUARANTINE} are shown" if len(rows) > SHOWN_QUARANTINE else ""),
    )
