"""Which rows of a shard kill the process that reads them: bisection in child processes, so that no worker dies.

A decoder that crashes, a file that swallows all memory or one that never ends takes its whole process along,
and with it the work on good rows. Here a child takes the risk: it dies instead, is started anew, and the rows
are halved until only those that crash are left. On Linux the child that dies is a fork of one that has imported
everything: a death then costs milliseconds, not the seconds of a new interpreter.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import PermanentError, picklable
from infra.lifeline import child_environment, tie_to_parent, tied_command

START_SECONDS = 300.0
"""How long a child may take to import what the probe needs."""

_TAIL = 2000  # bytes of the end of a child's output that an error quotes
_LENGTH = 8  # bytes of the length before each message, big-endian

Probe = Callable[[Any, Sequence[int]], None]


@dataclass(frozen=True)
class Poison:
    """Rows that kill their process: normally one, several when only all of them together do."""

    rows: tuple[int, ...]
    why: str


def find_poison(probe: Probe, payload: Any, rows: Sequence[int], *, seconds: float | None = None) -> list[Poison]:
    """The rows on which `probe(payload, rows)` kills its process.

    A row is named when it kills two processes, the second a fresh one: the first may have died of memory that
    earlier rows left behind. A set that dies while its halves survive twice is named whole. A set that takes
    too long while its halves do not was merely large.

    Args:
        probe: module-level function that does to the rows what killed the worker; its value is ignored.
        payload: what it needs besides the rows; pickled once for each child.
        seconds: what one call of the probe may take; None waits for ever.

    Returns:
        In order of rows; empty when the child survives all of them.

    Raises:
        Exception: what the probe raised, as it was.
        PermanentError: a child died before it could call the probe; the text ends with the end of its output.
    """
    if not rows:
        return []
    with contextlib.closing(_Child(probe, payload, seconds)) as child:
        why = child.run(rows)
        return _search(child, tuple(rows), why) if why is not None else []


def _search(child: _Child, rows: tuple[int, ...], why: _Death) -> list[Poison]:
    """Poison among rows that died."""
    if len(rows) == 1:
        again = child.run(rows)
        return [Poison(rows, again.text)] if again is not None else []
    middle = len(rows) // 2
    for _ in range(1 if why.slow else 2):
        found = []
        for half in (rows[:middle], rows[middle:]):
            death = child.run(half)
            if death is not None:
                found += _search(child, half, death)
        if found:
            return found
    return [] if why.slow else [Poison(rows, why.text)]


@dataclass(frozen=True)
class _Death:
    text: str
    slow: bool = False  # it did not die by itself: its time was up


class _Child:
    """A process that calls the probe; started when it is needed, and again after each death."""

    def __init__(self, probe: Probe, payload: Any, seconds: float | None) -> None:
        self._task = pickle.dumps((probe, payload))
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, rows: Sequence[int]) -> _Death | None:
        """Call the probe once; None when the child survives it."""
        process = self._process or self._start()
        try:
            _write(process.stdin.fileno(), pickle.dumps(tuple(rows)))  # type: ignore[union-attr]
            answer = pickle.loads(_read(process.stdout.fileno(), self._seconds))  # type: ignore[union-attr]
        except TimeoutError:
            self.close()
            return _Death(f"took more than {self._seconds:g} s", slow=True)
        except (BrokenPipeError, EOFError):
            return _Death(_cause(self._reap()))
        if isinstance(answer, int):
            return _Death(_cause(answer))
        _raise(answer)
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as output:
            self._process = process = subprocess.Popen(
                # A child whose parent died before the lifeline was tied finds the end of its input and ends too.
                tied_command("infra.compute.crash_bisection"),
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,
            )
            try:
                _write(process.stdin.fileno(), self._task)  # type: ignore[union-attr]
                answer = pickle.loads(_read(process.stdout.fileno(), START_SECONDS))  # type: ignore[union-attr]
            except (OSError, EOFError) as error:  # OSError: broken pipe or time out
                late = isinstance(error, TimeoutError)
                cause = f"took more than {START_SECONDS:g} s" if late else _cause(self._reap())
                self.close()
                output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL))
                last = output.read().decode(errors="replace").strip()
                raise PermanentError(
                    f"the child process that looks for poison rows could not start ({cause}); "
                    f"mend what it says last: {last or 'nothing'}"
                ) from None
        _raise(answer)
        return process

    def _reap(self) -> int:
        """Wait for a child that closed its pipes; its return code."""
        process, self._process = self._process, None
        assert process is not None
        with process:
            return process.wait()

    def close(self) -> None:
        """End the child, whatever it does."""
        if self._process is not None:
            self._process.kill()
            # Its fork dies with it, and holds the other end of the answers until then.
            with contextlib.suppress(OSError):
                while os.read(self._process.stdout.fileno(), 1 << 16):  # type: ignore[union-attr]
                    pass
            self._reap()


def _cause(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def _write(file: int, message: bytes) -> None:
    rest = memoryview(len(message).to_bytes(_LENGTH, "big") + message)
    while rest:
        rest = rest[os.write(file, rest) :]


def _read(file: int, seconds: float | None = None) -> bytes:
    """One message; EOFError when the other end is closed, TimeoutError when it takes too long."""
    end = None if seconds is None else time.monotonic() + seconds
    with selectors.DefaultSelector() as ready:
        ready.register(file, selectors.EVENT_READ)

        def exactly(count: int) -> bytes:
            parts = bytearray()
            while len(parts) < count:
                if not ready.select(None if end is None else max(0.0, end - time.monotonic())):
                    raise TimeoutError
                part = os.read(file, count - len(parts))
                if not part:
                    raise EOFError
                parts += part
            return bytes(parts)

        return exactly(int.from_bytes(exactly(_LENGTH), "big"))


def main() -> None:
    """The child: the probe and its payload first, then rows, until the input ends."""
    requests, answers = os.dup(0), os.dup(1)
    # Libraries print where they like; only the two duplicates belong to the channel.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one shard may cost dozens of deaths, and disks are finite
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # where memory runs out the kernel takes this process, not the worker beside it
    with contextlib.suppress(EOFError):
        task = _answered(answers, pickle.loads, _read(requests))
        if task is not None:
            _serve(requests, answers, *task)


def _serve(requests: int, answers: int, probe: Probe, payload: Any) -> None:
    """Answer requests until the input ends; on Linux in forks, of which the next replaces one that died.

    The answer to a request that killed its fork is the fork's exit code, an int.
    """
    while sys.platform == "linux":
        parent, fork = os.getpid(), os.fork()
        if fork == 0:
            tie_to_parent(parent)
            break
        if (code := os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])) == 0:
            return
        _write(answers, pickle.dumps(code))
    while True:
        _answered(answers, probe, payload, pickle.loads(_read(requests)))


def _answered(file: int, function: Callable[..., Any], *args: Any) -> Any:
    """Call, and send the parent None or the exception."""
    value = None
    try:
        value = function(*args)
        answer = pickle.dumps(None)
    except Exception as error:
        error.add_note(f"in the child process:\n{traceback.format_exc()}")
        answer = pickle.dumps(picklable(error))
    _write(file, answer)
    return value


if __name__ == "__main__":
    main()
