"""What ranks do in the tests of `infra.torchrun`: no torch, so that they start at once."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from infra.errors import UsageError
from infra.torchrun import Seat


def work(seat: Seat) -> Any:
    """As the task says: `once` dies in its first life, `wait` never ends, `usage` and `bug` raise in the last rank."""
    task, last = seat.task, seat.rank == seat.ranks - 1
    seat.say({"rank": seat.rank, "life": int(os.environ["TORCHELASTIC_RESTART_COUNT"])})
    if task == "once" and last and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    while task == "wait" or (not last and task in ("usage", "bug")):
        if seat.leave():
            return "left"
        time.sleep(0.01)
    if task == "usage":
        raise UsageError("the spec is wrong")
    if task == "bug":
        raise RuntimeError("out of memory")
    return f"{task} by {seat.rank} of {seat.ranks}"


def main() -> None:
    """A rank, as torchrun starts it."""
    seat = Seat.take()
    seat.sit(lambda: work(seat))


if __name__ == "__main__":
    main()
