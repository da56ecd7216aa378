"""What a training says on its way, and what the flow's process makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.compute.cluster import Cluster
from infra.servers.tracking import connect, experiment
from infra.storage.store import LocalStore
from tasks.distill.curves import KEY_TAG
from tasks.distill.reporting import POINTS, Reporter
from tasks.distill.stage import distill
from tasks.spec.arms import LABELS_ONLY
from tests.tasks.distill.test_stage import spec_of
from tests.tiny import tiny_corpus


def test_points_of_a_long_training_are_thinned() -> None:
    told: list[dict[str, Any]] = []
    reporter = Reporter(told.append, steps=3 * POINTS, batch=8)
    for step in range(1, 3 * POINTS + 1):
        reporter.step(step, {"loss": 1.0, "kl": 0.5, "lr": 0.1})
    reporter.send()
    points = [point for message in told for point in message["points"]]
    assert [point["step"] for point in points] == list(range(3, 3 * POINTS + 1, 3))
    assert points[0] == {"step": 3, "loss": 1.0, "kl": 0.5}


def test_steps_of_one_second_make_one_message() -> None:
    told: list[dict[str, Any]] = []
    reporter = Reporter(told.append, steps=100, batch=8)
    for step in range(41, 61):
        reporter.step(step, {"loss": 1.0})
    reporter.log({"step": 60, "lr": 0.1}, {"images_per_second": 5.0, "waiting": 0.5})
    assert told == []
    reporter.send()
    (message,) = told
    assert (message["step"], len(message["points"])) == (60, 20)
    assert message["logs"] == [{"step": 60, "lr": 0.1, "images_per_second": 5.0, "waiting": 0.5}]


def test_lines_for_people_do_not_wait() -> None:
    told: list[dict[str, Any]] = []
    Reporter(told.append, steps=100, batch=8).say("a checkpoint is damaged")
    assert told == [{"points": [], "logs": [], "say": ["a checkpoint is damaged"]}]


def test_the_flow_hears_how_far_a_training_is(store: LocalStore, cluster: Cluster) -> None:
    heard: list[tuple[int, int]] = []
    tell = lambda done, total: heard.append((done, total))  # noqa: E731
    distill(tiny_corpus(store), [], None, spec_of(store), store, cluster, arm=LABELS_ONLY, progress=tell)
    assert heard[-1] == (12, 12)


def test_a_training_that_is_tracked_has_its_curves_in_mlflow(store: LocalStore, cluster: Cluster, home: Path) -> None:
    spec = spec_of(store)
    key = distill(tiny_corpus(store), [], None, spec, store, cluster, arm=LABELS_ONLY, track=True).manifest.key
    client = connect()
    (run,) = client.search_runs([experiment(client, spec.name)])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "student labels_only seed 0")
    assert run.data.tags[KEY_TAG] == key
    assert [m.step for m in client.get_metric_history(run.info.run_id, "cross_entropy")] == list(range(1, 13))
    assert {"val_macro_f1", "images_per_second", "waiting", "lr", "epoch"} < run.data.metrics.keys()
