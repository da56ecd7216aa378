"""Curves of a training in MLflow while it runs, written by a thread of the flow's process.

The worker that trains may not reach MLflow, and a training must not wait for it: what cannot be written is reported
once and then dropped. A training that is resumed goes on in its MLflow run, found by the training's key.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from infra.servers.tracking import RUNS_LOCK, TRAINING_TAG, connect, end_run, experiment, quiet, resume_run, start_run

CLOSE_SECONDS = 30.0
"""How long the end of a training waits for the last points."""

_BATCH = 1000  # metrics that one call of MLflow takes


class Curves:
    """Writes the messages of one training into its MLflow run.

    Args:
        name: of the experiment.
        key: of the training.
        title: name of the run.
        tags, params: of the run; nothing of them shows a patient or a place.
        message: called, once, with the reason why nothing is written.
        flow_run: id of the flow run whose MLflow run is the parent; "": no parent.
    """

    def __init__(
        self,
        name: str,
        key: str,
        title: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        message: Callable[[str], None],
        flow_run: str = "",
    ) -> None:
        self._name, self._key, self._title, self._message = name, key, title, message
        self._tags, self._params, self._flow_run = {**tags, TRAINING_TAG: key}, dict(params), flow_run
        self._queue: queue.SimpleQueue[dict[str, Any] | str] = queue.SimpleQueue()
        self._written = {"points": 0, "logs": 0}  # up to which step
        self._thread = threading.Thread(target=self._work, name=f"curves-{key[:8]}", daemon=True)
        self._thread.start()

    def add(self, message: dict[str, Any]) -> None:
        """Take a message of `tasks.distill.training_messages`; never waits."""
        self._queue.put(message)

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED; waits `CLOSE_SECONDS` at most for what is still to be written."""
        self._queue.put(status)
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        try:
            client, place, run_id = self._open()
            while not isinstance(message := self._queue.get(), str):
                self._write(client, run_id, message)
            end_run(client, place, run_id, message)
        except Exception as error:  # whatever it is, the training is worth more than its curves
            self._message(
                f"{self._title}: its curves are not written to MLflow ({type(error).__name__}: {error}); the training "
                "goes on. run.train.track: false switches them off"
            )

    def _open(self) -> tuple[Any, str, str]:
        # A new database and a new experiment are made once, however many trainings begin.
        with RUNS_LOCK:
            client = connect()
            place = experiment(client, self._name)
            with quiet():
                found = client.search_runs(
                    [place], f"tags.`{TRAINING_TAG}` = '{self._key}' and attributes.status != 'FINISHED'", max_results=1
                )
            if not found:
                run_id = start_run(client, place, self._title, tags=self._tags, flow_run=self._flow_run)
                with quiet():
                    for name, value in self._params.items():
                        client.log_param(run_id, name, value)
                return client, place, run_id
            run_id = str(found[0].info.run_id)
            resume_run(client, place, run_id, flow_run=self._flow_run)
            with quiet():
                self._written = {
                    "points": _last(client, run_id, "loss"),
                    "logs": _last(client, run_id, "epoch"),
                }
            return client, place, run_id

    def _write(self, client: Any, run_id: str, message: dict[str, Any]) -> None:
        with quiet():
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [Metric(name, value, now, step) for name, value, step in self._new(message)]
            for start in range(0, len(metrics), _BATCH):
                client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _new(self, message: dict[str, Any]) -> Iterator[tuple[str, float, int]]:
        """(metric, value, step) of what was not written before; a step that is repeated has the same values."""
        logs = [{k: v for k, v in row.items() if _only_in_logs(k)} for row in message["logs"]]
        for kind, rows in (("points", message["points"]), ("logs", logs)):
            for row in rows:
                if row["step"] <= self._written[kind]:
                    continue
                self._written[kind] = row["step"]
                for name, value in row.items():
                    if name != "step" and math.isfinite(value):
                        yield name, float(value), int(row["step"])


def _only_in_logs(name: str) -> bool:
    """Whether a number of a log point is in no message of a single step: those have the losses."""
    return name in ("step", "lr", "epoch", "images_per_second", "waiting") or name.startswith(("val_", "train_"))


def _last(client: Any, run_id: str, name: str) -> int:
    return max((int(metric.step) for metric in client.get_metric_history(run_id, name)), default=0)
