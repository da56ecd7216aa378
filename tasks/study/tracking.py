"""A study in MLflow: one parent run, and a child run for each unit (condition, arm, seed).

Runs are found again by tags, so that a study that is run again goes on in the same runs; a unit with other weights is
another run. A study must not end because MLflow does not answer: what cannot be written is said once, then dropped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from infra.servers.tracking import RUNS_LOCK, connect, experiment, quiet
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.register.mlflow_run import parameters
from tasks.spec import Spec
from tasks.study.design import Study
from tasks.study.runs import Ran

STUDY_TAG = "stillroom.study"
"""Tag of a parent run: kind of the study and name of its spec."""

UNIT_TAG = "stillroom.unit"
"""Tag of a child run: condition, arm, and key of the training."""

_PARENT, _SOURCE = "mlflow.parentRunId", {"mlflow.source.name": "stillroom"}
_FILES = ("report", "csv", "tex", "png", "svg", "curves_csv", "curves_png", "curves_svg")
_BATCH, _PARAMS = 1000, 100  # most that one MLflow call takes


class StudyRuns:
    """Writes a study's runs.

    Args:
        store: of the units.
        message: called, once, with the reason why nothing is written.
        track: False: nothing is written, as `run.train.track`.
    """

    def __init__(
        self, store: Store, spec: Spec, study: Study, *, message: Callable[[str], None], track: bool = True
    ) -> None:
        self._store, self._spec, self._study, self._message = store, spec, study, message
        self._writes = track
        self._client: Any = None
        self._place = self._parent = ""

    def open(self) -> None:
        """Find or make the parent run; it is RUNNING from now on."""
        self._try(self._open)

    def add(self, condition: str, fold: int | None, ran: Ran, rates: Mapping[str, float]) -> None:
        """Write the units of a condition, or of one of its folds, that has ended.

        Args:
            rates: factor of the learning rates of each arm.
        """
        self._try(lambda: self._add(condition, fold, ran, rates))

    def close(self, made: Manifest) -> None:
        """Write the table and the primary contrast, and end the parent run as FINISHED."""
        self._try(lambda: self._close(made))

    def stop(self, status: str) -> None:
        """End the parent run as FAILED or KILLED; the same study goes on in it."""
        self._try(lambda: self._client.set_terminated(self._parent, status))

    def _try(self, write: Callable[[], None]) -> None:
        if not self._writes:
            return
        try:
            with quiet():
                write()
        except Exception as error:  # whatever it is, the study is worth more than its runs
            self._writes = False
            self._message(
                f"study {self._study.kind}: its runs are not written to MLflow ({type(error).__name__}: {error}); the "
                "study goes on. run.train.track: false switches them off"
            )

    def _open(self) -> None:
        with RUNS_LOCK:
            self._client = connect()
            self._place = experiment(self._client, self._spec.name)
            name = f"study {self._study.kind}"
            self._parent = self._run(f"{self._study.kind} {self._spec.name}", STUDY_TAG, name, {})
        from mlflow.entities import Param

        known = self._client.get_run(self._parent).data.params
        params = [Param(key, value) for key, value in parameters(self._spec).items() if key not in known]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(self._parent, params=params[start : start + _PARAMS])

    def _run(self, value: str, tag: str, name: str, tags: Mapping[str, str]) -> str:
        """Id of the run that has a tag, RUNNING again; made where there is none."""
        found = self._client.search_runs([self._place], f"tags.`{tag}` = '{value}'", max_results=1)
        if found:
            self._client.update_run(found[0].info.run_id, "RUNNING")
            return str(found[0].info.run_id)
        return str(
            self._client.create_run(self._place, run_name=name, tags={tag: value, **tags, **_SOURCE}).info.run_id
        )

    def _add(self, condition: str, fold: int | None, ran: Ran, rates: Mapping[str, float]) -> None:
        arms = next(each.arms for each in self._study.conditions if each.name == condition)
        for arm in arms:
            row = ran.report.facts["arms"][arm]
            for seed, training in ran.models[arm].items():
                test = row["per_seed"][row["seeds"].index(seed)]
                named = {"condition": condition, "arm": arm, "seed": seed, **({} if fold is None else {"fold": fold})}
                self._unit({**named, "rate": f"{rates.get(arm, 1.0):g}"}, training, test)

    def _unit(self, named: Mapping[str, Any], training: Manifest, test: Mapping[str, float | None]) -> None:
        from mlflow.entities import Metric, Param

        facts = training.facts
        with RUNS_LOCK:
            run_id = self._run(
                f"{named['condition']} {named['arm']} {training.key}",
                UNIT_TAG,
                f"{named['condition']} {named['arm']} seed {named['seed']}"
                + (f" fold {named['fold']}" if "fold" in named else ""),
                {_PARENT: self._parent, "stillroom.training_key": training.key},
            )
        data = self._client.get_run(run_id).data
        known = ("model", "input_size", "steps", "parameters")
        told = {**named, **{name: facts[name] for name in known if name in facts}}
        params = [Param(name, str(value)) for name, value in told.items() if name not in data.params]
        now = int(time.time() * 1000)
        metrics = [Metric(f"test_{name}", value, now, 0) for name, value in test.items() if value is not None]
        metrics = [metric for metric in metrics if data.metrics.get(metric.key) != metric.value]
        if not data.metrics:
            history = json.loads(read_output(self._store, training.output(kind="history")))
            metrics += [Metric(name, value, now, step) for name, value, step in _points(history)]
        self._client.log_batch(run_id, params=params)
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        self._client.set_terminated(run_id, "FINISHED")

    def _close(self, made: Manifest) -> None:
        from mlflow.entities import Metric

        primary, now = made.facts["primary"], int(time.time() * 1000)
        span = primary["interval"] or [None, None]
        told = {
            "primary/difference": primary["value"],
            "primary/low": span[0],
            "primary/high": span[1],
            "primary/p": primary["p"],
            **{f"{row['condition']}/{row['arm']}": row["values"][made.facts["metric"]] for row in made.facts["rows"]},
        }
        metrics = [Metric(name.replace(":", "-"), value, now, 0) for name, value in told.items() if value is not None]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._parent, metrics=metrics[start : start + _BATCH])
        for output in made.outputs:
            if output.meta["kind"] in _FILES:
                self._client.log_artifact(self._parent, str(self._store.local_path(output.name)), "study")
        self._client.set_tag(self._parent, "stillroom.study_key", made.key)
        self._client.set_terminated(self._parent, "FINISHED")


def _points(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """(metric, value, step) of a training's log points."""
    for row in history:
        for name, value in row.items():
            if name.startswith(("val_", "train_", "loss")) and isinstance(value, int | float) and math.isfinite(value):
                yield name, float(value), int(row["step"])
