"""What a person sees on the terminal: one line a stage, a progress bar while it works."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tasks.pipeline.surroundings import Listener


class TerminalListener(Listener):
    """Progress bars on a terminal, plain lines elsewhere; always on standard error."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._lock = threading.Lock()
        self._bars: dict[str, TaskID] = {}
        self._since: dict[str, float] = {}
        self._live: Progress | None = None
        if self._console.is_terminal:
            columns = (
                TextColumn("  {task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
            )
            self._live = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)

    def progress(self, label: str, done: int, total: int) -> None:
        with self._lock:
            self._since.setdefault(label, time.monotonic())
            if self._live is None:
                return
            if not self._bars:
                self._live.start()
            if label not in self._bars:
                self._bars[label] = self._live.add_task(label, total=total)
            self._live.update(self._bars[label], completed=done, total=total)

    def ended(self, label: str, state: str, message: str) -> None:
        with self._lock:
            if self._live is not None and label in self._bars:
                self._live.remove_task(self._bars.pop(label))
                if not self._bars:
                    self._live.stop()
            seconds = time.monotonic() - self._since.pop(label, time.monotonic())
            took = f"  [{seconds:.0f} s]" if seconds >= 1 else ""
            self._console.print(f"  {state:<10} {label}: {message}{took}", markup=False)

    def message(self, text: str) -> None:
        """One line for the person who waits."""
        self._console.print(text, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()


class NamedListener(Listener):
    """Follows one of several runs on a terminal that they share.

    Args:
        name: of the run; begins every line.
    """

    def __init__(self, terminal: TerminalListener, name: str) -> None:
        self._terminal, self._name = terminal, name

    def progress(self, label: str, done: int, total: int) -> None:
        self._terminal.progress(f"{self._name}: {label}", done, total)

    def message(self, text: str) -> None:
        self._terminal.message(f"{self._name}: {text}")

    def ended(self, label: str, state: str, message: str) -> None:
        self._terminal.ended(f"{self._name}: {label}", state, message)
