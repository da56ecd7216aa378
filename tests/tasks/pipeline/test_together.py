"""Steps of one stage that start together share one pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.errors import CancelledError, PermanentError
from infra.storage.store import LocalStore
from tasks.pipeline import together
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageWork
from tasks.pipeline.together import Together
from tests.tasks.pipeline.toy import Toy


def works(folder: Path, count: int, **named: object) -> list[Toy]:
    context = Context(LocalStore(folder / "store"), **named)  # type: ignore[arg-type]
    return [Toy(context, (), number) for number in range(count)]


def meet(meeting: Together, all_works: Sequence[StageWork]) -> list[BaseException]:
    """Every work joins in a thread of its own; the errors that came of it."""
    errors: list[BaseException] = []

    def join(work: StageWork) -> None:
        try:
            meeting.join(work)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=join, args=(work,)) for work in all_works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_the_shared_pass_runs_once_with_all(tmp_path: Path) -> None:
    passes: list[int] = []
    meeting = Together(lambda shared: passes.append(len(shared)), 3)
    assert meet(meeting, works(tmp_path, 3)) == []
    assert passes == [3]


def test_a_later_attempt_passes_by(tmp_path: Path) -> None:
    passes: list[int] = []
    meeting = Together(lambda shared: passes.append(len(shared)), 2)
    both = works(tmp_path, 2)
    meet(meeting, both)
    meeting.join(both[0])
    assert passes == [2]


def test_those_that_came_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "PATIENCE", 0.05)
    passes: list[int] = []
    assert meet(Together(lambda shared: passes.append(len(shared)), 3), works(tmp_path, 2)) == []
    assert passes == [2]


def test_an_error_of_the_shared_pass_is_left_to_each(tmp_path: Path) -> None:
    heard: list[str] = []

    def fail(shared: Sequence[StageWork]) -> None:
        raise PermanentError("one teacher does not fit")

    assert meet(Together(fail, 2), works(tmp_path, 2, message=heard.append)) == []
    assert heard == ["the shared pass of several toy steps ended early: one teacher does not fit"]


def test_a_stop_in_the_shared_pass_stops_all(tmp_path: Path) -> None:
    def stop(shared: Sequence[StageWork]) -> None:
        raise CancelledError("stopped on request")

    errors = meet(Together(stop, 1), works(tmp_path, 1))
    assert [type(error) for error in errors] == [CancelledError]
