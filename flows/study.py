"""Flow `study`: one of the papers' comparisons around a spec: conditions x arms x seeds, then one table.

Purpose: a researcher points it at a corpus and gets the paper's table; what is killed goes on where it stood.
Cache policy: every condition is a run of the line, whose stages are `Cached` where the store holds them; one more seed,
arm or share costs what is new of it.
Environment: as flow `retrain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from flows.line import line
from flows.output import STOPPED
from flows.parameters import Override
from flows.run import run_line
from flows.running import result_of
from flows.spec_files import find_spec
from flows.study_checks import check_study
from flows.study_progress import StudyProgress
from infra.compute.cluster import Cluster
from infra.errors import CancelledError, CorruptError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store, open_store
from tasks.maintenance.under_way import RunRecord
from tasks.pipeline.context import Context
from tasks.pipeline.surroundings import SURROUNDINGS, Surroundings
from tasks.prefect_tasks import publish
from tasks.spec import Spec
from tasks.study.checks import check_subsets
from tasks.study.design import Base, Condition, Study
from tasks.study.runs import Ran
from tasks.study.stage import STAGE, StudyWork, run_study
from tasks.study.studies import STUDIES, best_rates, read_base, title_of_training
from tasks.study.tracking import StudyRuns

Kind = Literal["unlabeled", "guidance", "small-data"]
Seeds = Annotated[list[int], Field(min_length=1)]


def _name_of_study() -> str:
    given = flow_run.parameters
    return f"{given['kind']} {Path(str(given['spec'])).stem}"


def _name_of_part() -> str:
    return str(flow_run.parameters["title"])


@flow(name="condition", flow_run_name=_name_of_part, persist_result=False)
def condition(
    title: str,
    kind: Kind,
    spec: str,
    overrides: list[Override],
    arms: list[str],
    name: str,
    seeds: Seeds,
    rates: dict[str, float],
    weights: dict[str, str] | None,
    upto: str,
    fold: int | None = None,
) -> Any:
    """One condition of a study: a run of the line on its spec.

    Args:
        title: For people.
        kind: Of the study.
        spec: As of flow `study`.
        overrides: As of flow `study`.
        arms: As of flow `study`.
        name: Of the condition; "" for the whole corpus, up to its training set.
        seeds: Of the students.
        rates: Factor of the learning rates of each arm.
        weights: Objects of the store with the weights of teachers that were trained before.
        upto: The last stage to run.
        fold: Number of the fold whose patients are the test images; none: the corpus's own splits.
    """
    base, study = design(kind, spec, overrides, arms)
    if not name:
        return run_line(base.whole(fold), upto)
    found = next(each for each in study.conditions if each.name == name)
    return run_line(base.spec_of(found, seeds, rates, weights, fold), upto)


@flow(name="study", flow_run_name=_name_of_study, persist_result=False)
def study(
    kind: Kind,
    spec: str,
    overrides: list[Override] = [],  # noqa: B006  (Prefect shows the default in its form)
    arms: list[str] = [],  # noqa: B006
    seeds: Seeds = [0, 1, 2, 3, 4],  # noqa: B006
) -> Any:
    """Run a study and write its table.

    Args:
        kind: unlabeled (paper 1), guidance (paper 2) or small-data (paper 3).
        spec: Path of a spec file on the machine that runs the flow, or the name of a spec in `STILLROOM_HOME/specs`.
        overrides: Keys of the spec that have other values in this run.
        arms: Arms to compare; none for those of the study's default, `all` for every one.
        seeds: Of the students.
    """
    base, found = design(kind, spec, overrides, arms)
    around = SURROUNDINGS.get(Surroundings())
    parts = _Parts(kind, spec, overrides, arms, base, found, seeds)
    check_study(base, found, seeds)
    cluster = around.cluster or Cluster(base.spec.run.cluster)
    progress = StudyProgress(f"{kind}-{base.spec.name}", around.listener, parts.trainings)
    followed = SURROUNDINGS.set(Surroundings(progress, cluster, around.stop, around.stopping))
    track = base.spec.run.train.track
    runs = StudyRuns(open_store(base.spec.store), base.spec, found, message=around.listener.message, track=track)
    runs.open()
    try:
        return _run(parts, cluster, runs)
    except (CancelledError, KeyboardInterrupt):
        runs.stop("KILLED")
        return Cancelled(message=STOPPED)
    except BaseException:
        runs.stop("FAILED")
        raise
    finally:
        progress.tell()
        SURROUNDINGS.reset(followed)
        if around.cluster is None:
            cluster.close()


def design(kind: str, spec: str, overrides: list[Override], arms: list[str]) -> tuple[Base, Study]:
    """The study's base and what it compares."""
    base = read_base(Path(find_spec(spec)), [f"{one.key}={one.value}" for one in overrides])
    return base, STUDIES[kind](base, arms)


class _Parts:
    """Runs of the line that a study consists of."""

    def __init__(
        self, kind: Kind, spec: str, overrides: list[Override], arms: list[str], base: Base, study: Study, seeds: Seeds
    ) -> None:
        self._given: dict[str, Any] = {"kind": kind, "spec": spec, "overrides": overrides, "arms": arms}
        self.base, self.study, self.seeds = base, study, seeds
        self.weights: dict[int | None, dict[str, str]] = {}

    def run(
        self, title: str, name: str, seeds: Seeds, rates: Mapping[str, float], upto: str, fold: int | None
    ) -> dict[str, Any]:
        """The result of a run, as `run_line` gives it; CancelledError where it was asked to stop."""
        found = condition(
            title=title if fold is None else f"{title}, fold {fold}",
            name=name,
            seeds=seeds,
            rates=dict(rates),
            weights=self.weights.get(fold),
            upto=upto,
            fold=fold,
            **self._given,
            return_state=True,
        )
        return result_of(found)

    @property
    def trainings(self) -> int:
        """Trainings that the study goes through, those with the learning rates that are tried included."""
        factors, first, before = len(self.base.section.rates), self.seeds[:1], self.study.teachers_first
        count = _trainings(self.base.spec, "teach", ("teach",)) if before else 0
        for each in self.study.conditions:
            kinds = ("distill",) if before and not each.own_teachers else ("teach", "distill")
            if factors > 1:
                count += factors * _trainings(self.base.spec_of(each, first, {}), "distill", kinds)
            count += _trainings(self.base.spec_of(each, self.seeds, {}), "evaluate", kinds)
        return count * len(self.base.folds)

    def rates(self, each: Condition, fold: int | None) -> dict[str, float]:
        """The learning rates of a condition's arms, chosen on validation with the first seed, in each fold anew."""
        factors = self.base.section.rates
        if len(factors) == 1:
            return dict.fromkeys(each.arms, factors[0])
        first = self.seeds[:1]
        tried = {
            factor: self.run(
                f"{each.title}, learning rate x {factor:g}",
                each.name,
                first,
                dict.fromkeys(each.arms, factor),
                "distill",
                fold,
            )["results"]
            for factor in factors
        }
        return best_rates(each, tried, self.base.task, first[0])


def _trainings(spec: Spec, upto: str, kinds: Sequence[str]) -> int:
    return sum(step.stage.name in kinds for step in line(spec).up_to(upto))


def _run(parts: _Parts, cluster: Cluster, tracked: StudyRuns) -> dict[str, Any]:
    study, spec = parts.study, parts.base.spec
    store = open_store(spec.store)
    last = "combine" if spec.entries else "ingest"
    corpus: Manifest | None = None
    for fold in parts.base.folds:
        if corpus is not None and not study.teachers_first:
            break
        upto = "teach" if study.teachers_first else last
        whole = parts.run("training set", "", parts.seeds, {}, upto, fold)
        corpus = _manifest(store, next(stage for stage in whole["stages"] if stage["stage"].partition(" ")[0] == last))
        if study.teachers_first:
            parts.weights[fold] = _weights(store, whole["stages"])
    assert corpus is not None
    check_subsets(parts.base, study, corpus, Context(store, cluster, spec.run))
    runs: dict[str, list[Ran]] = {}
    rates: dict[str, list[dict[str, float]]] = {}
    stages = []
    for each in study.conditions:
        for fold in parts.base.folds:
            chosen = parts.rates(each, fold)
            result = parts.run(each.title, each.name, parts.seeds, chosen, "evaluate", fold)
            found = _ran(store, each, parts.seeds, result["stages"], corpus)
            rates.setdefault(each.name, []).append(chosen)
            runs.setdefault(each.name, []).append(found)
            tracked.add(each.name, fold, found, chosen)
            of = {"condition": each.name} if fold is None else {"condition": each.name, "fold": fold}
            stages += [{**stage, **of} for stage in result["stages"]]
    around = SURROUNDINGS.get(Surroundings())
    context = Context(store, cluster, spec.run, message=around.listener.message, stop=around.stop)
    work = StudyWork(context, study, corpus, runs, rates, spec, parts.seeds)
    flow_context = FlowRunContext.get()
    run_id = str(flow_context.flow_run.id) if flow_context and flow_context.flow_run else spec.name
    with RunRecord(store, f"study-{run_id}", spec.name) as record:
        made = run_study(work)
        record.add([(STAGE, made.manifest.key)])
    tracked.close(made.manifest)
    for artifact in work.artifacts(made, 0.0):
        publish(artifact)
    return {
        "name": spec.name,
        "kind": study.kind,
        "store": spec.store,
        "cached": made.cached and all(stage["state"] == "Cached" for stage in stages),
        "stages": stages,
        "rates": rates,
        "figures": {name: value for name, value in made.manifest.facts.items() if name != "table"},
        "outputs": {str(output.meta["kind"]): str(store.local_path(output.name)) for output in made.manifest.outputs},
        "flow_run": run_id,
    }


def _ran(
    store: Store, each: Condition, seeds: Sequence[int], stages: Sequence[Mapping[str, Any]], corpus: Manifest
) -> Ran:
    """What a run of the line on a condition ended with."""
    by_title = {stage["stage"]: stage for stage in stages}
    students = {
        arm: {seed: _manifest(store, by_title[title_of_training(keys, arm, seed)]) for seed in seeds}
        for arm, keys in each.arms.items()
    }
    teachers = {
        f"teacher:{title.removeprefix('teach ')}": {0: _manifest(store, stage)}
        for title, stage in by_title.items()
        if title.startswith("teach ") and " without fold " not in title
    }
    return Ran(
        corpus=_manifest(store, by_title["subset"]) if "subset" in by_title else corpus,
        labels=[_manifest(store, stage) for title, stage in by_title.items() if title.startswith("label ")],
        report=_manifest(store, by_title["evaluate"]),
        models={**students, **teachers},
    )


def _weights(store: Store, stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The weights of trained teachers, by name."""
    taught = [
        stage for stage in stages if stage["stage"].startswith("teach ") and " without fold " not in stage["stage"]
    ]
    return {
        stage["stage"].removeprefix("teach "): _manifest(store, stage).output(kind="model").name for stage in taught
    }


def _manifest(store: Store, stage: Mapping[str, Any]) -> Manifest:
    """The manifest that a run ended a stage with."""
    name = stage["stage"].partition(" ")[0]
    hit = StageCache(store).lookup(name, stage["manifest"])
    if hit is None:
        raise CorruptError(f"the {name} manifest {stage['manifest'][:12]} vanished during the study")
    return hit.manifest
