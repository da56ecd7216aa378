"""A store whose process is killed in the middle of an erasure; run as a program, in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from infra.storage.store import LocalStore
from tasks.maintenance.forgetting.forget import forget


class DyingStore(LocalStore):
    """A folder; before its n-th change the process gets SIGKILL."""

    def __init__(self, root: Path, changes: int) -> None:
        super().__init__(root)
        self._left = changes

    def put(self, name: str, data: bytes) -> None:
        self._change(name)
        super().put(name, data)

    def delete(self, name: str) -> None:
        self._change(name)
        super().delete(name)

    def _change(self, name: str) -> None:
        if name.startswith("locks/"):
            return
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Arguments: a patient, then pairs of a store's folder and the number of changes that are made before its death."""
    patient, *rest = sys.argv[1:]
    for root, changes in zip(rest[::2], rest[1::2], strict=True):
        child = os.fork()
        if child == 0:
            forget(DyingStore(Path(root), int(changes)), patients=[patient])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(root, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)


if __name__ == "__main__":
    main()
