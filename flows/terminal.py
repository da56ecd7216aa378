"""What a person sees on the terminal: one line a stage, a progress bar while it works."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tasks.pipeline.staging import Listener


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

    def progress(self, title: str, done: int, total: int) -> None:
        with self._lock:
            self._since.setdefault(title, time.monotonic())
            if self._live is None:
                return
            if not self._bars:
                self._live.start()
            if title not in self._bars:
                self._bars[title] = self._live.add_task(title, total=total)
            self._live.update(self._bars[title], completed=done, total=total)

    def ended(self, title: str, state: str, message: str) -> None:
        with self._lock:
            if self._live is not None and title in self._bars:
                self._live.remove_task(self._bars.pop(title))
                if not self._bars:
                    self._live.stop()
            seconds = time.monotonic() - self._since.pop(title, time.monotonic())
            took = f"  [{seconds:.0f} s]" if seconds >= 1 else ""
            self._console.print(f"  {state:<10} {title}: {message}{took}", markup=False)

    def say(self, text: str) -> None:
        """One line for the person who waits."""
        self._console.print(text, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
