"""Ranks under a real torchrun: what they say and answer, how they fail, and that none is left."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.compute.torchrun import run_ranks
from infra.errors import CancelledError, PermanentError, TransientError, UsageError

MARK = "STILLROOM_TEST_MARK"


def run(task: str, ranks: int = 2, restarts: int = 0, **rest: Any) -> Any:
    return run_ranks("tests.infra.ranks", task, ranks=ranks, restarts=restarts, **rest)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    return value


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(mark: str) -> bool:
    return psutil.wait_procs(marked(mark), timeout=30)[1] == []


def test_a_rank_that_dies_is_started_again_with_the_others(mark: str, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    answer = run("once", restarts=1, tell=heard.append, scratch=str(tmp_path))
    assert answer == "once by 0 of 2"
    assert heard[-1] == {"rank": 0, "life": 1}
    assert gone(mark)
    assert list(tmp_path.iterdir()) == []


def test_a_group_is_made_anew_after_a_death(mark: str) -> None:
    assert run("group", restarts=1) == 2.0
    assert gone(mark)


def test_deaths_without_end_are_an_error_that_may_pass(mark: str) -> None:
    with pytest.raises(TransientError, match=r"(?s)died again and again.*exitcode +: -9"):
        run("once", restarts=0)
    assert gone(mark)


def test_an_error_on_purpose_arrives_as_it_was_and_ends_the_others(mark: str) -> None:
    with pytest.raises(UsageError, match="the spec is wrong") as caught:
        run("usage", restarts=3)
    assert "in rank 1 of 2" in "".join(caught.value.__notes__)
    assert gone(mark)


def test_an_error_of_the_program_is_named(mark: str) -> None:
    with pytest.raises(PermanentError, match="RuntimeError: out of memory"):
        run("bug", ranks=1)
    assert gone(mark)


def once_heard(heard: list[dict[str, Any]], answer: Callable[[], Any]) -> Callable[[], Any]:
    """A question that is answered as soon as the ranks are at work."""
    return lambda: answer() if heard else False


def stop() -> None:
    raise CancelledError("stopped on request")


def test_a_request_to_stop_ends_them(mark: str) -> None:
    heard: list[dict[str, Any]] = []
    with pytest.raises(CancelledError):
        run("wait", tell=heard.append, stop=once_heard(heard, stop))
    assert gone(mark)


def test_ranks_hear_that_they_should_leave(mark: str) -> None:
    heard: list[dict[str, Any]] = []
    assert run("wait", tell=heard.append, preempted=once_heard(heard, lambda: True)) == "preempted"
    assert gone(mark)
