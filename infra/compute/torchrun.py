"""Several processes of one program on this host: started by torchrun, watched by a Dask worker.

torchrun notices deaths and starts all ranks anew; ranks are expected to go on from what they stored. It does not pass
on messages of a rank, so ranks and the process that waits for them share a folder:

    task       what the ranks are to do, pickled
    messages   lines of JSON, appended by rank 0
    preempted  there once the ranks are asked to end at their next chance
    final-R    the error by which rank R ended for good, pickled: another try would not help, or not here
    failed-R   the error by which rank R ended in its last start, pickled; torchrun starts all of them again
    answer     what rank 0 made, pickled
    output     what any of them printed

All of them die with the process that started them, however it dies (`infra/lifeline.py`).
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from infra.errors import PermanentError, StillroomError, TransientError, is_transient, picklable
from infra.lifeline import start_tied, tie_to_parent

SECONDS_BETWEEN_LOOKS = 0.1
_TAIL = 1000  # characters of the output's end that an error quotes
_FOLDER, _STARTER = "STILLROOM_RANKS_FOLDER", "STILLROOM_RANKS_STARTER"


def run_ranks(
    module: str,
    task: Any,
    *,
    ranks: int,
    restarts: int,
    env: Mapping[str, str] | None = None,
    scratch: str | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda message: None,
    stop: Callable[[], None] = lambda: None,
    preempted: Callable[[], bool] = lambda: False,
) -> Any:
    """Run `python -m module` in several processes; the value of rank 0.

    Each of them begins with `RankProcess.from_environment`.

    Args:
        task: what they are to do; pickled.
        restarts: of all of them after one died, before that counts as a failure.
        env: more environment variables.
        scratch: where the folder is made; default: where temporary files go. A killed process leaves it behind.
        tell: gets the messages of rank 0, in order.
        stop: asked while they run; what it raises ends them at once.
        preempted: asked while they run; once it is true they are asked to end by themselves.

    Raises:
        StillroomError: that by which a rank ended for good, as it was.
        TransientError: they died more often than `restarts` allows.
        PermanentError: their program fails; the text ends with how.
    """
    with tempfile.TemporaryDirectory(prefix="stillroom-ranks-", dir=scratch) as name:
        folder = Path(name)
        (folder / "task").write_bytes(pickle.dumps(task))
        process = _start(module, folder, ranks, restarts, env or {})
        messages = _lines(folder / "messages")
        try:
            while True:
                ended = process.poll() is not None  # asked first: messages from before the end are then all there
                for line in messages:
                    if line is None:
                        break
                    tell(json.loads(line))
                _raise_final_error(folder)
                if ended:
                    return _answer(folder, process.returncode)
                stop()
                if preempted():
                    (folder / "preempted").touch()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS_BETWEEN_LOOKS)
        finally:
            process.kill()  # and with it every rank, which is tied to it
            process.wait()


@dataclass(frozen=True)
class RankProcess:
    """A rank as it sees itself: its number, its task, and its way to the process that waits for it."""

    folder: Path
    rank: int
    ranks: int

    @classmethod
    def from_environment(cls) -> RankProcess:
        """First thing in a rank: tie it to torchrun, and find out which rank it is."""
        tie_to_parent()
        if _parent_of(os.getppid()) not in (None, int(os.environ[_STARTER])):
            os.kill(os.getpid(), signal.SIGKILL)  # torchrun died before the lifeline was tied
        return cls(Path(os.environ[_FOLDER]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    @property
    def task(self) -> Any:
        """What `run_ranks` was given."""
        return pickle.loads((self.folder / "task").read_bytes())

    def join(self, backend: str, timeout: timedelta) -> None:
        """Make all ranks one group of torch.distributed.

        Args:
            backend: gloo or nccl.
            timeout: how long they wait for one of them; torchrun notices at once when one dies.
        """
        import torch.distributed as dist

        # torchrun keeps one store through all lives of the ranks, and torch relies on its being a new one: addresses of
        # dead ranks are found there, and the second life waits for them for ever.
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout
        )
        dist.init_process_group(
            backend,
            store=dist.PrefixStore(f"life-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store),
            rank=self.rank,
            world_size=self.ranks,
            timeout=timeout,
        )

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the process that waits; only rank 0 does."""
        if self.rank == 0:
            with (self.folder / "messages").open("a") as file:
                file.write(json.dumps(message) + "\n")

    def preempted(self) -> bool:
        """Whether the ranks are asked to end at their next chance."""
        return (self.folder / "preempted").exists()

    def run(self, work: Callable[[], Any]) -> None:
        """Do the work, and write its value or error into the folder.

        An error of Stillroom's, or one that is transient, is final: `run_ranks` raises it. Any
        other may come of the death of another rank; torchrun starts all of them again.
        """
        try:
            answer = work()
        except Exception as error:
            error.add_note(f"in rank {self.rank} of {self.ranks}:\n{traceback.format_exc()}")
            kind = "final" if isinstance(error, StillroomError) or is_transient(error) else "failed"
            self._write(f"{kind}-{self.rank}", picklable(error))
            raise
        if self.rank == 0:
            self._write("answer", answer)

    def _write(self, name: str, value: Any) -> None:
        part = self.folder / f"{name}.part"
        part.write_bytes(pickle.dumps(value))
        part.replace(self.folder / name)


def _start(module: str, folder: Path, ranks: int, restarts: int, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    options = ["--standalone", "--nproc-per-node", str(ranks), "--max-restarts", str(restarts)]
    # Addresses of this host alone: its own name need not be one that it can find.
    options += ["--local-addr", "localhost", "--log-dir", str(folder / "logs")]
    with (folder / "output").open("wb") as output:
        return start_tied(
            "torch.distributed.run",
            [*options, "-m", module],
            env={
                **os.environ,
                "TORCH_SHARE_RDZV_TCP_STORE": "1",  # the store that `Seat.join` asks
                "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
                **env,
                _FOLDER: str(folder),
                _STARTER: str(os.getpid()),
            },
            output=output,
        )


def _lines(path: Path) -> Iterator[str | None]:
    """Whole lines as a file grows; None whenever there is no more for now."""
    while not path.exists():
        yield None
    rest = ""
    with path.open() as file:
        while True:
            rest += file.read()
            *lines, rest = rest.split("\n")
            yield from lines
            yield None


def _raise_final_error(folder: Path) -> None:
    found = sorted(folder.glob("final-*[0-9]"))
    if found:
        raise pickle.loads(found[0].read_bytes())


def _answer(folder: Path, code: int) -> Any:
    if code == 0 and (folder / "answer").exists():
        return pickle.loads((folder / "answer").read_bytes())
    output = (folder / "output").read_bytes().decode(errors="replace")
    failures = [pickle.loads(path.read_bytes()) for path in sorted(folder.glob("failed-*[0-9]"))]
    own = [error for error in failures if not _comes_of_others(error)]
    if own:
        raise PermanentError(f"{type(own[0]).__name__}: {own[0]}") from own[0]
    # torchrun ends with a page about who died first.
    last = output.rpartition("Root Cause")[2][-_TAIL:].strip()
    raise TransientError(f"the ranks died again and again; torchrun says: {last or 'nothing'}")


def _comes_of_others(error: BaseException) -> bool:
    """Whether a rank may have failed only because another one was gone."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo" in str(error)


def _parent_of(pid: int) -> int | None:
    """Parent of a process; None where that cannot be known."""
    try:
        # The second field is a name in parentheses, which may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
