"""What the process around a run gives it: who follows it, a cluster that it may share, a request to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from infra.compute.cluster import Cluster


class Listener:
    """Receives progress, messages and ends of steps; this one ignores them."""

    def progress(self, label: str, done: int, total: int) -> None:
        """`done` of `total` units of a step are made."""

    def message(self, text: str) -> None:
        """A line for people."""

    def ended(self, label: str, state: str, message: str) -> None:
        """A step ended."""


def _never() -> bool:
    return False


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Surroundings:
    """Attributes:
    listener: of the run.
    cluster: used in place of a cluster of the run's own, and not closed by it.
    stop: asked now and then; the run is cancelled when it says yes.
    stopping: called when the run hears of such a request itself, from Prefect or by a signal.
    """

    listener: Listener = field(default_factory=Listener)
    cluster: Cluster | None = None
    stop: Callable[[], bool] = _never
    stopping: Callable[[], None] = _nothing


SURROUNDINGS: ContextVar[Surroundings] = ContextVar("surroundings")
"""Set around a run by the command that started it; a flow that a schedule starts has none."""
