"""Curves of a training in MLflow while it runs, written by a thread of the flow's process.

The worker that trains may not reach MLflow, and a training must not wait for it: what cannot be written is said once
and then left. A training that goes on after a restart goes on in its MLflow run, found by the training's key.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from infra.servers.tracking import connect, experiment, quiet

KEY_TAG = "stillroom.training"
PATIENCE = 30.0
"""Seconds that the end of a training waits for the last points."""

_TOGETHER = 1000  # metrics that one call of MLflow takes
_OPENING = threading.Lock()  # a new database and a new experiment are made once, however many trainings begin


class Curves:
    """Writes what one training says into its MLflow run.

    Args:
        name: of the experiment.
        key: of the training.
        title: name of the run.
        tags, params: of the run; nothing of them shows a patient or a place.
        say: hears, once, why nothing is written.
    """

    def __init__(
        self,
        name: str,
        key: str,
        title: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._name, self._key, self._title, self._say = name, key, title, say
        self._tags, self._params = {**tags, KEY_TAG: key, "mlflow.source.name": "stillroom"}, dict(params)
        self._heard: queue.SimpleQueue[dict[str, Any] | str] = queue.SimpleQueue()
        self._written = {"points": 0, "logs": 0}  # up to which step
        self._thread = threading.Thread(target=self._work, name=f"curves-{key[:8]}", daemon=True)
        self._thread.start()

    def add(self, message: dict[str, Any]) -> None:
        """Take a message of `tasks.distill.reporting`; never waits."""
        self._heard.put(message)

    def close(self, status: str) -> None:
        """End the run as FINISHED or FAILED; waits for what is still to be written, but not for ever."""
        self._heard.put(status)
        self._thread.join(PATIENCE)

    def _work(self) -> None:
        try:
            client, run_id = self._open()
            while not isinstance(heard := self._heard.get(), str):
                self._write(client, run_id, heard)
            with quiet():
                client.set_terminated(run_id, heard)
        except Exception as error:  # whatever it is, the training is worth more than its curves
            self._say(
                f"{self._title}: its curves are not written to MLflow ({type(error).__name__}: {error}); the training "
                "goes on. run.train.track: false asks for none"
            )

    def _open(self) -> tuple[Any, str]:
        with _OPENING:
            client = connect()
            place = experiment(client, self._name)
            with quiet():
                found = client.search_runs(
                    [place], f"tags.`{KEY_TAG}` = '{self._key}' and attributes.status != 'FINISHED'", max_results=1
                )
                if not found:
                    run = client.create_run(place, run_name=self._title, tags=self._tags)
                    for name, value in self._params.items():
                        client.log_param(run.info.run_id, name, value)
                    return client, str(run.info.run_id)
                run_id = str(found[0].info.run_id)
                client.update_run(run_id, "RUNNING")
                self._written = {
                    "points": _last(client, run_id, "loss"),
                    "logs": _last(client, run_id, "epoch"),
                }
                return client, run_id

    def _write(self, client: Any, run_id: str, message: dict[str, Any]) -> None:
        with quiet():
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            found = [Metric(name, value, now, step) for name, value, step in self._new(message)]
            for start in range(0, len(found), _TOGETHER):
                client.log_batch(run_id, metrics=found[start : start + _TOGETHER])

    def _new(self, message: dict[str, Any]) -> Iterator[tuple[str, float, int]]:
        """(metric, value, step) of what was not written before; a step that is done again says the same."""
        logs = [{k: v for k, v in row.items() if _beside(k)} for row in message["logs"]]
        for kind, rows in (("points", message["points"]), ("logs", logs)):
            for row in rows:
                if row["step"] <= self._written[kind]:
                    continue
                self._written[kind] = row["step"]
                for name, value in row.items():
                    if name != "step" and math.isfinite(value):
                        yield name, float(value), int(row["step"])


def _beside(name: str) -> bool:
    """Whether a number of a log point is told by no single step: those have the losses."""
    return name in ("step", "lr", "epoch", "images_per_second", "waiting") or name.startswith("val_")


def _last(client: Any, run_id: str, name: str) -> int:
    return max((int(metric.step) for metric in client.get_metric_history(run_id, name)), default=0)
