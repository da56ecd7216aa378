"""Messages of a training: what the worker sends, and what the flow's process does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.compute.cluster import Cluster
from infra.servers.tracking import TRAINING_TAG, connect, experiment
from infra.storage.store import LocalStore
from tasks.distill.stage import distill
from tasks.distill.training_messages import POINTS, TrainingMessages
from tasks.pipeline.context import Context
from tasks.spec.arms import LABELS_ONLY
from tests.tasks.distill.test_stage import spec_of
from tests.tiny import tiny_corpus


def test_points_of_a_long_training_are_thinned() -> None:
    sent: list[dict[str, Any]] = []
    messages = TrainingMessages(sent.append, steps=3 * POINTS, batch=8)
    for step in range(1, 3 * POINTS + 1):
        messages.step(step, {"loss": 1.0, "kl": 0.5, "lr": 0.1})
    messages.flush()
    points = [point for message in sent for point in message["points"]]
    assert [point["step"] for point in points] == list(range(3, 3 * POINTS + 1, 3))
    assert points[0] == {"step": 3, "loss": 1.0, "kl": 0.5}


def test_steps_of_one_second_make_one_message() -> None:
    sent: list[dict[str, Any]] = []
    messages = TrainingMessages(sent.append, steps=100, batch=8)
    for step in range(41, 61):
        messages.step(step, {"loss": 1.0})
    messages.log({"step": 60, "lr": 0.1}, {"images_per_second": 5.0, "waiting": 0.5})
    assert sent == []
    messages.flush()
    (message,) = sent
    assert (message["step"], len(message["points"])) == (60, 20)
    assert message["logs"] == [{"step": 60, "lr": 0.1, "images_per_second": 5.0, "waiting": 0.5}]


def test_lines_for_people_do_not_wait() -> None:
    sent: list[dict[str, Any]] = []
    TrainingMessages(sent.append, steps=100, batch=8).line("a checkpoint is damaged")
    assert sent == [{"points": [], "logs": [], "lines": ["a checkpoint is damaged"]}]


def test_a_message_without_new_steps_tells_no_pace() -> None:
    sent: list[dict[str, Any]] = []
    messages = TrainingMessages(sent.append, steps=100, batch=8)
    messages.step(1, {"loss": 1.0})
    messages.flush()
    messages.line("it follows its teachers")
    messages.flush()
    assert ["images_per_second" in message for message in sent] == [True, False, False]


def test_the_flow_gets_the_progress_of_a_training(store: LocalStore, cluster: Cluster) -> None:
    progress: list[tuple[int, int]] = []
    spec = spec_of(store)
    context = Context(store, cluster, spec.run, progress=lambda done, total: progress.append((done, total)))
    distill(context, tiny_corpus(store), [], None, spec, arm=LABELS_ONLY)
    assert progress[-1] == (12, 12)


def test_a_training_that_is_tracked_has_its_curves_in_mlflow(store: LocalStore, cluster: Cluster, home: Path) -> None:
    spec = spec_of(store, train="{epochs: 3, batch: 8, lr: 0.01}")
    context = Context(store, cluster, spec.run, run_id="flow-1")
    key = distill(context, tiny_corpus(store), [], None, spec, arm=LABELS_ONLY, track=True).manifest.key
    client = connect()
    run, parent = client.search_runs([experiment(client, spec.name)])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "student labels_only seed 0")
    assert run.data.tags[TRAINING_TAG] == key
    assert (run.data.params["epochs"], run.data.params["steps"]) == ("3.0", "12")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [m.step for m in client.get_metric_history(run.info.run_id, "cross_entropy")] == list(range(1, 13))
    assert {"val_macro_f1", "images_per_second", "waiting", "lr", "epoch"} < run.data.metrics.keys()
