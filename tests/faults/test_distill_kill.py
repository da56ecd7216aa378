"""SIGKILL of what trains, at random steps: the weights are those of a training that nobody disturbed.

`STILLROOM_KILLS` says how often the one process is killed (default 5); the draws repeat.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.distill.stage import distill, student_request
from tasks.pipeline.context import Context
from tasks.spec import Spec, parse_spec
from tasks.spec.arms import LABELS_ONLY
from tasks.teachers.weights_lookup import find_weights
from tests.tiny import tiny_corpus

KILLS = int(os.environ.get("STILLROOM_KILLS", "5"))
STEPS = 60
MARK = "STILLROOM_TEST_MARK"


def spec_of(store: LocalStore, ranks: int, *overrides: str) -> Spec:
    return parse_spec(
        f"""
name: killed
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: 32, count: 2}}
teachers: [{{name: t, model: micro_xs}}]
student: {{model: micro_xs, train: {{steps: {STEPS}, batch: 8, lr: 0.01, checkpoint_every: 3}}}}
run: {{device: cpu, train: {{devices: {ranks}, threads: {ranks}}}}}
""",
        overrides=overrides,
    )


def student(
    folder: Path, cluster: Cluster, ranks: int = 1, *overrides: str, begun: list[int] | None = None
) -> Manifest:
    """A student on labels alone; `begun` gets the steps of its progress."""
    store, steps = LocalStore(folder), [] if begun is None else begun
    spec = spec_of(store, ranks, *overrides)
    context = Context(store, cluster, spec.run, progress=lambda step, total: steps.append(step))
    return distill(context, tiny_corpus(store), [], None, spec, arm=LABELS_ONLY).manifest


def weights(folder: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    return load(LocalStore(folder).get(manifest.output(kind="model").name))


@pytest.fixture(scope="module")
def mark() -> Iterator[str]:
    """A mark in the environment of every process that this file starts."""
    with pytest.MonkeyPatch.context() as patch:
        value = uuid.uuid4().hex
        patch.setenv(MARK, value)
        yield value


@pytest.fixture(scope="module")
def workers(mark: str) -> Iterator[Cluster]:
    with Cluster(ClusterSection(workers=2)) as cluster:
        yield cluster


def busy(cluster: Cluster) -> list[str]:
    """Addresses of the workers that train."""
    return [address for address, tasks in cluster.client.processing().items() if tasks]


def marked(mark: str) -> list[psutil.Process]:
    """Living ranks of this file's trainings."""
    found = []
    for process in psutil.process_iter():
        try:
            own = process.environ()
        except psutil.Error:
            continue
        if own.get(MARK) == mark and "RANK" in own:
            found.append(process)
    return found


def job_of(manifest: Manifest, folder: Path, cluster: Cluster) -> Any:
    """The job that made a student, for another store."""
    from tasks.distill.training_job import build_job

    store = LocalStore(folder)
    corpus, spec = tiny_corpus(store), spec_of(store, 1)
    request = student_request(corpus, [], None, spec, store, arm=LABELS_ONLY, seed=0)
    none = find_weights(None, spec.student.model, store)
    context = Context(store, cluster, spec.run)
    job = build_job(request, manifest.key, none, corpus, spec, context, device="cpu", side_by_side=1)
    assert request.key(corpus, job.views, none.id) == manifest.key
    return job


def test_a_training_killed_at_random_steps_ends_with_the_same_bits(tmp_path: Path, workers: Cluster) -> None:
    calm = student(tmp_path / "calm", workers)
    job = job_of(calm, tmp_path / "killed", workers)
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    steps = sorted(random.Random(1).sample(range(1, STEPS), KILLS))
    command = [sys.executable, "-m", "tests.faults.trainee", str(tmp_path / "job"), *map(str, steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    killed = student(tmp_path / "killed", workers)
    assert killed == calm


def until(found: Callable[[], Any], thread: threading.Thread) -> Any:
    """What `found` finds, as soon as it finds something; the training must still run."""
    while not (answer := found()):
        assert thread.is_alive(), "the training ended too early"
        time.sleep(0.01)
    return answer


def step_of(folder: Path) -> int:
    steps = [int(path.stem) for path in folder.glob("checkpoints/*/*.json")]
    return max(steps, default=0)


def test_a_killed_rank_and_a_killed_worker_cost_steps_and_nothing_else(
    tmp_path: Path, workers: Cluster, mark: str
) -> None:
    calm = student(tmp_path / "calm", workers, ranks=2)
    made: list[Manifest] = []
    thread = threading.Thread(target=lambda: made.append(student(tmp_path / "killed", workers, ranks=2)))
    thread.start()
    until(lambda: step_of(tmp_path / "killed") >= 6, thread)
    random.Random(1).choice(marked(mark)).kill()
    until(lambda: step_of(tmp_path / "killed") >= 24, thread)
    ranks = marked(mark)
    for pid in workers.client.run(os.getpid, workers=busy(workers)).values():
        psutil.Process(pid).kill()
    _, left = psutil.wait_procs(ranks, timeout=30)
    assert (len(ranks), left) == (2, [])
    thread.join()
    expected, got = weights(tmp_path / "calm", calm), weights(tmp_path / "killed", made[0])
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=1e-6)


def test_a_training_leaves_a_worker_that_closes_with_a_checkpoint(tmp_path: Path, workers: Cluster) -> None:
    long = ("student.train.steps=600", "student.train.checkpoint_every=100000")
    made: list[Manifest] = []
    begun: list[int] = []
    work = lambda: made.append(student(tmp_path, workers, 1, *long, begun=begun))  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: begun, thread)
    workers.client.retire_workers(busy(workers))
    assert 0 < until(lambda: step_of(tmp_path), thread) < 600
    thread.join()
    assert made[0].facts["steps"] == 600
