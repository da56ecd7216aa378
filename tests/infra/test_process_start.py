"""What a process of ours sets first, seen from inside a server's process and a worker's."""

from __future__ import annotations

import gc
import os
import subprocess

from infra.compute.cluster import Cluster
from infra.lifeline import child_environment, tied_command
from infra.process_start import YOUNG

SHOW = "import gc, os; print(gc.get_threshold()[0], os.environ['OPENBLAS_THREAD_TIMEOUT'])"


def shown(environment: dict[str, str]) -> str:
    """What a tied process has set."""
    command = tied_command("timeit", ["--number", "1", "--repeat", "1", SHOW])
    done = subprocess.run(command, env=child_environment(environment), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def test_a_server_looks_for_cycles_less_often_and_its_idle_threads_sleep() -> None:
    unset = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    assert shown(unset) == f"{YOUNG} 4"


def test_what_the_user_has_set_stays() -> None:
    assert shown({**os.environ, "OPENBLAS_THREAD_TIMEOUT": "20"}) == f"{YOUNG} 20"


def test_a_worker_looks_for_cycles_less_often(cluster: Cluster) -> None:
    assert cluster.client.submit(lambda: gc.get_threshold()[0]).result() == YOUNG
