"""Runs and garbage collections on one store at the same time: each says that it is there before it looks around.

A run writes its record under `runs/`, marked as under way, before it looks anything up. A collection writes a mark
under `locks/` before it removes anything, and looks at `runs/` before each removal. Whichever comes second sees the
other: a collection that sees a run removes nothing more; a run that sees a collection waits until the mark is gone.
Both rewrite what they left while they live, so that one that was killed is not waited for.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

from infra.digest import canonical_json
from infra.errors import CancelledError, CorruptError, StillroomError
from infra.storage.manifest import manifest_name
from infra.storage.store import Store

RUNS, LOCKS = "runs/", "locks/"
COLLECTIONS = f"{LOCKS}gc-"
RUN_SIGN_SECONDS = 300.0  # between two writings of a run's record
RUN_DEAD_SECONDS = 3600.0  # a record as old as that is of a run that was killed
MARK_SIGN_SECONDS = 5.0
MARK_DEAD_SECONDS = 60.0
_LOOK_SECONDS = 0.1

_log = logging.getLogger(__name__)


def run_record(spec: str, manifests: Iterable[tuple[str, str]], *, under_way: bool = False) -> bytes:
    """What a run leaves under `runs/<id>.json`.

    Args:
        spec: its name.
        manifests: (stage, key) of what the run ended with so far.
        under_way: the run goes on.
    """
    record = {"spec": spec, "manifests": [list(pair) for pair in manifests]}
    return canonical_json({**record, "under_way": True} if under_way else record)


def parse_run_record(data: bytes, name: str) -> tuple[list[str], bool]:
    """Names of the manifests that a run ended with, and whether it goes on; CorruptError where it is no record."""
    try:
        record = json.loads(data)
        names = [manifest_name(str(stage), str(key)) for stage, key in record["manifests"]]
        under_way = record.get("under_way", False)
        whole = run_record(record["spec"], record["manifests"], under_way=under_way) == data
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise CorruptError(f"{name}: damaged: no record of a run; remove it if the run is of no interest")
    return names, under_way


class RunRecord:
    """The record of one run in the store, from its start to its end; a context manager.

    Entering waits until no collection removes anything. A run that is killed leaves its record as it was.

    Args:
        run_id: names the record.
        spec: name of the spec.
        stop: asked while waiting.

    Raises:
        CancelledError: on entering, `stop` said yes.
    """

    def __init__(self, store: Store, run_id: str, spec: str, stop: Callable[[], bool] = lambda: False) -> None:
        self._store, self._name, self._spec, self._stop = store, f"{RUNS}{run_id}.json", spec, stop
        self._manifests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._alive = _SignsOfLife(lambda: self._write(under_way=True), RUN_SIGN_SECONDS)

    def add(self, manifests: Iterable[tuple[str, str]]) -> None:
        """Say what the run has ended with so far, as (stage, key); gc keeps it for a while."""
        self._manifests = list(manifests)
        self._write(under_way=True)

    def _write(self, *, under_way: bool) -> None:
        with self._lock:
            self._store.put(self._name, run_record(self._spec, self._manifests, under_way=under_way))

    def __enter__(self) -> RunRecord:
        self._write(under_way=True)
        self._alive.start()
        try:
            _wait_for_collections(self._store, self._stop)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alive.stop()
        try:
            self._write(under_way=False)
        except (StillroomError, OSError) as failed:
            # The error of the run itself says more; a record that stays under way only lets gc wait.
            _log.warning("the end of the run could not be recorded: %s", failed)


def runs_under_way(store: Store) -> list[str]:
    """Names of the records of runs that go on."""
    ages = store.ages(RUNS)
    found = []
    for name in sorted(name for name, age in ages.items() if age < RUN_DEAD_SECONDS):
        _, under_way = parse_run_record(store.get(name), name)
        found += [name] if under_way else []
    return found


@contextmanager
def collecting(store: Store) -> Iterator[None]:
    """Hold back runs that start meanwhile; ask `runs_under_way` inside, before each removal."""
    name = f"{COLLECTIONS}{uuid.uuid4().hex}.json"
    count = 0

    def write() -> None:
        nonlocal count
        count += 1
        store.put(name, canonical_json({"sign": count}))

    write()
    alive = _SignsOfLife(write, MARK_SIGN_SECONDS)
    alive.start()
    try:
        yield
    finally:
        alive.stop()
        store.delete(name)


def _wait_for_collections(store: Store, stop: Callable[[], bool]) -> None:
    """Return when no collection is alive: it removed its mark, or did not write it again for MARK_DEAD_SECONDS."""
    since: dict[tuple[str, str], float] = {}
    while True:
        # By what changes, not by age: clocks of machines and servers differ.
        marks, now = store.stamps(COLLECTIONS), time.monotonic()
        since = {mark: since.get(mark, now) for mark in marks.items()}
        if all(now - first > MARK_DEAD_SECONDS for first in since.values()):
            return
        if stop():
            raise CancelledError("stopped on request")
        time.sleep(_LOOK_SECONDS)


class _SignsOfLife:
    """Calls a function every so many seconds, in a thread, until it is stopped."""

    def __init__(self, write: Callable[[], None], seconds: float) -> None:
        self._call, self._seconds = write, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="signs-of-life", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._call()
            except (StillroomError, OSError) as error:
                _log.warning("%s; tried again in %g s", error, self._seconds)
