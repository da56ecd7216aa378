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

from flows.output import STOPPED
from flows.parameters import Override
from flows.run import run_line
from flows.running import result_of
from flows.spec_files import find_spec
from infra.compute.cluster import Cluster
from infra.errors import CancelledError, CorruptError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store, open_store
from tasks.maintenance.under_way import RunRecord
from tasks.pipeline.context import Context
from tasks.pipeline.surroundings import SURROUNDINGS, Surroundings
from tasks.prefect_tasks import publish
from tasks.study.design import Base, Condition, Study
from tasks.study.stage import STAGE, StudyWork, run_study
from tasks.study.studies import STUDIES, best_rates, read_base, title_of_training

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
    """
    base, study = design(kind, spec, overrides, arms)
    if not name:
        return run_line(base.spec, upto)
    found = next(each for each in study.conditions if each.name == name)
    return run_line(base.spec_of(found, seeds, rates, weights), upto)


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
    for each in found.conditions:
        base.spec_of(each, seeds, {})  # what cannot be run is told before anything runs
    cluster = around.cluster or Cluster(base.spec.run.cluster)
    followed = SURROUNDINGS.set(Surroundings(around.listener, cluster, around.stop))
    try:
        return _run(parts, cluster)
    except (CancelledError, KeyboardInterrupt):
        return Cancelled(message=STOPPED)
    finally:
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
        self.weights: dict[str, str] | None = None

    def run(self, title: str, name: str, seeds: Seeds, rates: Mapping[str, float], upto: str) -> dict[str, Any]:
        """The result of a run, as `run_line` gives it; CancelledError where it was asked to stop."""
        found = condition(
            title=title,
            name=name,
            seeds=seeds,
            rates=dict(rates),
            weights=self.weights,
            upto=upto,
            **self._given,
            return_state=True,
        )
        return result_of(found)

    def rates(self, each: Condition) -> dict[str, float]:
        """The learning rates of a condition's arms, chosen on validation with the first seed."""
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
            )["results"]
            for factor in factors
        }
        return best_rates(each, tried, self.base.task, first[0])


def _run(parts: _Parts, cluster: Cluster) -> dict[str, Any]:
    study, spec = parts.study, parts.base.spec
    store = open_store(spec.store)
    last = "combine" if spec.entries else "ingest"
    whole = parts.run("training set", "", parts.seeds, {}, "teach" if study.teachers_first else last)
    corpus = _manifest(store, next(stage for stage in whole["stages"] if stage["stage"].partition(" ")[0] == last))
    if study.teachers_first:
        parts.weights = _weights(store, whole["stages"])
    reports: dict[str, Manifest] = {}
    models: dict[str, dict[str, Manifest]] = {}
    rates: dict[str, dict[str, float]] = {}
    stages = []
    for each in study.conditions:
        rates[each.name] = parts.rates(each)
        result = parts.run(each.title, each.name, parts.seeds, rates[each.name], "evaluate")
        by_title = {stage["stage"]: stage for stage in result["stages"]}
        reports[each.name] = _manifest(store, by_title["evaluate"])
        models[each.name] = {
            arm: _manifest(store, by_title[title_of_training(keys, arm, parts.seeds[0])])
            for arm, keys in each.arms.items()
        }
        stages += [{**stage, "condition": each.name} for stage in result["stages"]]
    context = Context(store, cluster, spec.run)
    work = StudyWork(context, study, corpus, reports, models, rates, spec, parts.seeds)
    flow_context = FlowRunContext.get()
    run_id = str(flow_context.flow_run.id) if flow_context and flow_context.flow_run else spec.name
    with RunRecord(store, f"study-{run_id}", spec.name) as record:
        made = run_study(work)
        record.add([(STAGE, made.manifest.key)])
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
