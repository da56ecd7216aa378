"""Gc and a run on one store at the same time: whatever comes between, the run ends whole."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.digest import sha256_bytes
from infra.errors import CancelledError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore, Store
from tasks.maintenance import under_way
from tasks.maintenance.gc import RemovalPlan, collect
from tasks.maintenance.under_way import RUN_DEAD_SECONDS, RunRecord, collecting, run_record, runs_under_way
from tasks.maintenance.verify import verify

KEY, OBJECT = sha256_bytes(b"key"), b"logits"
OLD = 40 * 86400


class Stepped:
    """A store that calls `between(number, name of the method)` before each call of a method."""

    def __init__(self, store: LocalStore, between: Callable[[int, str], None]) -> None:
        self._store, self._between, self.calls = store, between, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            self._between(number, name)
            return found(*args, **named)

        return call


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_way, "_LOOK_SECONDS", 0.002)


def forgotten(folder: Path) -> LocalStore:
    """A store with one old manifest, its object and its unit record; no root leads to them."""
    store = LocalStore(folder)
    make(store)
    then = time.time() - OLD
    for name in store.sizes(""):
        os.utime(store.local_path(name), (then, then))
    return store


def make(store: Store) -> None:
    cache = StageCache(store)
    output = cache.put_object("labels/{sha}.bin", OBJECT)
    cache.commit(Manifest(stage="label", version=1, key=KEY, inputs=[], section={}, outputs=[output]))


def retrain(store: Store, began: Callable[[], None] = lambda: None) -> None:
    """A run of one stage: found, or made."""
    with RunRecord(store, "new", "spec") as record:
        began()
        hit = StageCache(store).lookup("label", KEY)
        if hit is None or not hit.whole:
            make(store)
        record.add([("label", KEY)])


def gc(store: Any) -> RemovalPlan:
    return collect(store, folders=["labels/"], delete=True, registry=False)


def assert_whole(store: LocalStore) -> None:
    hit = StageCache(store).lookup("label", KEY)
    assert hit is not None
    assert hit.whole
    assert verify(store).defects == ()


def test_a_run_that_starts_at_any_step_of_gc_ends_whole(tmp_path: Path) -> None:
    step, steps = 0, 1
    while step < steps:
        store = forgotten(tmp_path / str(step))
        registered = threading.Event()
        run_store = Stepped(store, lambda number, name, told=registered: told.set() if number else None)
        run = threading.Thread(target=retrain, args=(run_store,))

        def start(number: int, name: str, at: int = step, run: Any = run, told: Any = registered) -> None:
            if number == at:
                run.start()
                assert told.wait(30)

        collected = Stepped(store, start)
        gc(collected)
        run.join()
        assert_whole(store)
        step, steps = step + 1, collected.calls
    assert steps > 20


def test_gc_at_any_step_of_a_run_leaves_the_run_whole(tmp_path: Path) -> None:
    step, steps = 0, 1
    while step < steps:
        store = forgotten(tmp_path / str(step))
        stepped = Stepped(store, lambda number, name, at=step, store=store: gc(store) if number == at else None)
        retrain(stepped)  # type: ignore[arg-type]
        assert_whole(store)
        gc(store)
        assert_whole(store)
        step, steps = step + 1, stepped.calls
    assert steps > 5


def test_gc_names_the_run_that_it_left_alone(tmp_path: Path) -> None:
    store = forgotten(tmp_path)
    left: list[RemovalPlan] = []
    retrain(store, lambda: left.append(gc(store)))
    assert (left[0].items, left[0].under_way) == ((), ("runs/new.json",))


def test_a_run_that_was_killed_holds_gc_up_for_an_hour(tmp_path: Path) -> None:
    store = forgotten(tmp_path)
    store.put("runs/dead.json", run_record("spec", [], under_way=True))
    assert gc(store).items == ()
    then = time.time() - RUN_DEAD_SECONDS - 1
    os.utime(store.local_path("runs/dead.json"), (then, then))
    assert {item.kind for item in gc(store).items} == {"manifests", "labels"}


def test_a_run_does_not_wait_for_a_gc_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_way, "MARK_DEAD_SECONDS", 0.05)
    store = forgotten(tmp_path)
    store.put("locks/gc-0123456789abcdef.json", b"{}")
    retrain(store)
    assert_whole(store)


def test_a_run_that_waits_for_gc_can_be_stopped(tmp_path: Path) -> None:
    store = forgotten(tmp_path)
    with collecting(store), pytest.raises(CancelledError), RunRecord(store, "new", "spec", lambda: True):
        pass
    assert runs_under_way(store) == []


def test_an_object_that_was_written_again_after_the_survey_stays(tmp_path: Path) -> None:
    store = forgotten(tmp_path)
    name = next(iter(store.sizes("labels/")))
    stepped = Stepped(store, lambda number, method: store.put(name, OBJECT) if method == "delete" else None)
    assert [item.kind for item in gc(stepped).items] == ["manifests"]
    assert store.exists(name)


def test_a_manifest_that_a_run_without_a_record_ended_with_after_the_survey_stays(tmp_path: Path) -> None:
    store = forgotten(tmp_path)

    def ended(number: int, method: str) -> None:
        if method == "abandoned":
            store.put("runs/other.json", run_record("spec", [("label", KEY)]))

    assert gc(Stepped(store, ended)).items == ()
    assert_whole(store)
