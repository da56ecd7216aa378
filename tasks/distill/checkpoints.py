"""Checkpoints of a training in the store: whole or absent, the two newest kept, damage noticed. No torch.

A checkpoint is two objects: the trainer's state, then a sealed note with its sha256 and the history so far. The note is
written last, so a checkpoint that was cut off half way is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from infra.digest import sha256_bytes
from infra.errors import CorruptError
from infra.storage.manifest import seal, unseal
from infra.storage.store import MissingObjectError, Store

FOLDER = "checkpoints/"
FORMAT = 1
"""Of the trainer's state: raised by a person when a release cannot resume what the one before it left."""

KEPT = 2
APART = 4
"""The end of an epoch brings a checkpoint when 1/4 of `checkpoint_every` steps have passed since the last one."""

History = list[dict[str, Any]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """State that a training is resumed from."""

    step: int
    state: bytes  # of models.training.Trainer
    history: History
    format: int = FORMAT


class Checkpoints:
    """The checkpoints of one training.

    Args:
        key: of the training.
        every: steps between two of them.
        epoch: steps of an epoch.
        writes: False in all but the first of several processes that train as one: they only keep count.
    """

    def __init__(self, store: Store, key: str, *, every: int = 1, epoch: int = 1, writes: bool = True) -> None:
        self._store, self._folder = store, f"{FOLDER}{key}/"
        self._every, self._epoch, self._writes = every, epoch, writes
        self._last = 0

    def newest(self) -> int:
        """Step of the newest one; 0 when there is none."""
        return max(_steps(self._store.sizes(self._folder)), default=0)

    def due(self, step: int) -> bool:
        """Whether the end of an epoch at this step is worth a checkpoint."""
        return step > 0 and step % self._epoch == 0 and APART * (step - self._last) >= self._every

    def save(self, step: int, state: bytes, history: History) -> None:
        """Write one, then remove all but the newest two."""
        self._last = step
        if not self._writes:
            return
        note = {"format": FORMAT, "step": step, "sha256": sha256_bytes(state), "history": history}
        self._store.put(self._state(step), state)
        self._store.put(self._note(step), seal(note))
        names = list(self._store.sizes(self._folder))
        kept = sorted(_steps(names))[-KEPT:]
        for name in names:
            if _step(name) not in kept:
                self._store.delete(name)

    def load(self, warn: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
        """The newest one that is whole; `warn` and the log get a line for any that is not."""
        for found in self._whole(warn):
            self._last = found.step
            return found
        return None

    def _whole(self, warn: Callable[[str], None]) -> Iterator[Checkpoint]:
        for step in sorted(_steps(self._store.sizes(self._folder)), reverse=True):
            try:
                note = unseal(self._store.get(self._note(step)), self._note(step))
                state = self._store.get(self._state(step))
                if sha256_bytes(state) != note["sha256"]:
                    raise CorruptError(f"{self._state(step)}: bytes are not those that were written")
            except (CorruptError, MissingObjectError) as error:
                text = f"the checkpoint of step {step:,} is damaged ({error}); the training goes on from the one before"
                _log.warning(text)
                warn(text)
                # It would count as progress, and keep a good one from being kept.
                self._store.delete(self._note(step))
                continue
            yield Checkpoint(step, state, list(note["history"]), int(note.get("format", 1)))

    def clear(self) -> None:
        """Remove all: the training is done."""
        for name in self._store.sizes(self._folder):
            self._store.delete(name)

    def _state(self, step: int) -> str:
        return f"{self._folder}{step:09d}.pt"

    def _note(self, step: int) -> str:
        return f"{self._folder}{step:09d}.json"


def other_format(store: Store, key: str) -> int | None:
    """Format of the newest checkpoint of a training, where this release does not read it."""
    folder = f"{FOLDER}{key}/"
    for step in sorted(_steps(store.sizes(folder)), reverse=True):
        name = f"{folder}{step:09d}.json"
        try:
            found = int(unseal(store.get(name), name).get("format", 1))
        except (CorruptError, MissingObjectError):
            continue
        return None if found == FORMAT else found
    return None


def _steps(names: Iterable[str]) -> set[int]:
    return {_step(name) for name in names if name.endswith(".json")}


def _step(name: str) -> int:
    return int(name.rpartition("/")[2].partition(".")[0])
