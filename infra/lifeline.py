"""No process of ours outlives its parent (Linux), and none hears the terminal: its parent ends it.

Each process asks the kernel for SIGKILL when its parent dies. Programs of others start through
`python -P -m infra.lifeline MODULE ARGS`, from the main thread: the kernel sends the signal when the
thread that started the child ends, not the process.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import IO

from infra.process_start import begin_process

_PR_SET_PDEATHSIG = 1
_PARENT = "STILLROOM_LIFELINE_PARENT"


def tie_to_parent(parent: int | None = None) -> None:
    """Die with the process that started this one; nothing happens where the kernel is not Linux.

    Args:
        parent: pid of the process that started this one, as that process knew it. Without it a parent that
            died before this call goes unnoticed.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = parent or os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def tied_command(module: str, args: Sequence[str] = ()) -> list[str]:
    """The command for `python -m module args` that ties itself to its parent first; run it in `child_environment()`."""
    return [sys.executable, "-P", "-m", "infra.lifeline", module, *args]


def child_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment in which a Python child imports what this process imports.

    Python puts the working folder first on the import path of `python -m`. There a user's folder `infra` or `tasks`
    would hide ours; PYTHONSAFEPATH keeps it away from the child and from all Python processes that it starts.

    Args:
        env: the environment to start from; default that of this process.
    """
    path, ours = [entry for entry in sys.path if entry], str(Path(__file__).resolve().parents[1])
    if ours not in path:
        path.append(ours)
    base = os.environ if env is None else env
    return {**base, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


def start_tied(
    module: str,
    args: Sequence[str],
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    *,
    umask: int = -1,
) -> subprocess.Popen[bytes]:
    """Start `python -m module args` so that it dies with this process.

    Args:
        env: its environment; default that of this process. The import path is always that of this process.
        output: file for what it prints; None discards it.
        umask: permissions that files it makes do not get; -1: those of this process.
    """
    return subprocess.Popen(
        tied_command(module, args),
        env={**child_environment(env), _PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if output is None else output,
        stderr=subprocess.DEVNULL if output is None else output,
        # A terminal sends an interrupt to all of its session's foreground; servers and ranks go on until we end them.
        start_new_session=True,
        umask=umask,
    )


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Threads and processes that are started within never get SIGINT.

    For those that a library starts: the mask of this thread is inherited by what it starts, and by what that starts.
    """
    # multiprocessing starts this helper with its first process, and unblocks SIGINT in the thread that does.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main() -> None:
    """Tie this process to its parent, then become `python -m MODULE ARGS`."""
    tie_to_parent(int(os.environ.pop(_PARENT, "0")) or None)
    begin_process()
    with suppress(PermissionError):  # it leads a session already
        os.setsid()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that starts us with `&` ignores it, and so would all that we start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
