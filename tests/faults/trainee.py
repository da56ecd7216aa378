"""A process that trains a job again and again in children of its own, which kill themselves at given steps.

`python -m tests.faults.trainee FILE STEP...`: FILE is a pickled job. Every child goes on from what the one before left
in the store and dies by SIGKILL before its STEP; the last one trains to the end. Forked: imports are paid once.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from infra.storage.store import open_store
from tasks.distill.checkpoints import Checkpoints
from tasks.distill.training_job import TrainJob
from tasks.distill.training_run import TrainingCallbacks, run_training


def main() -> None:
    """Train until it is done."""
    job: TrainJob = pickle.loads(Path(sys.argv[1]).read_bytes())
    for step in [*map(int, sys.argv[2:]), None]:
        child = os.fork()
        if child == 0:
            run_training(job, TrainingCallbacks(stop=_killer(job, step)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != (0 if step is None else signal.SIGKILL):
            sys.exit(f"the child that was to die at {step} ended with {status}")


def _killer(job: TrainJob, last: int | None) -> Callable[[], None]:
    """What a training asks before each step; SIGKILL answers before step `last`."""
    done = Checkpoints(open_store(job.store), job.key).newest()

    def stop() -> None:
        nonlocal done
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1

    return stop


if __name__ == "__main__":
    main()
