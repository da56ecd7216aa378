"""Started in a folder whose `infra` and `tasks` cannot be imported: every kind of child process, one after the other.

Run as `python -P -c "from tests.infra.shadowed import main; main()"`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.compute.crash_bisection import Poison, find_poison
from infra.compute.fan_out import Job, fan_out
from infra.compute.torchrun import run_ranks
from infra.lifeline import start_tied


def die_on_row_1(payload: None, rows: Sequence[int]) -> None:
    import tasks.data.corpus  # noqa: F401

    if 1 in rows:
        os.kill(os.getpid(), signal.SIGKILL)


def in_a_worker(number: int) -> list[Poison]:
    """Imports our packages in a worker, and in a child of that worker."""
    assert run_ranks("tests.infra.ranks", "once", ranks=1, restarts=1) == "once by 0 of 1"
    return find_poison(die_on_row_1, None, range(number))


def main() -> None:
    assert os.path.exists("infra/__init__.py")
    child = start_tied("tests.infra.shadowed", [])
    assert child.wait(120) == 0, "a tied child"
    poison = [Poison((1,), "killed by signal 9")]
    assert in_a_worker(2) == poison, "children of the driver"
    with Cluster(ClusterSection(workers=1)) as cluster:
        (outcome,) = fan_out(cluster, in_a_worker, [Job("a", (2,))])
        assert outcome.value == poison, outcome.error
