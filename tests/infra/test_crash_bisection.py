"""Rows that kill their process are found in children, which die in place of the worker."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from infra.compute.cluster import Cluster
from infra.compute.crash_bisection import Poison, find_poison
from infra.errors import CorruptError, PermanentError


def die_on(poison: set[int], rows: Sequence[int]) -> None:
    if poison & set(rows):
        os.kill(os.getpid(), signal.SIGKILL)


def leave_on(poison: set[int], rows: Sequence[int]) -> None:
    if poison & set(rows):
        os._exit(139)


def die_of_all_three(together: set[int], rows: Sequence[int]) -> None:
    if together <= set(rows):
        os.kill(os.getpid(), signal.SIGKILL)


def die_of_what_came_before(folder: str, rows: Sequence[int]) -> None:
    """Like a leak: the fourth row that one process reads is too much for it."""
    seen = Path(folder) / str(os.getpid())
    seen.write_text(seen.read_text() + "x" * len(rows) if seen.exists() else "x" * len(rows))
    if len(seen.read_text()) > 3:
        os.kill(os.getpid(), signal.SIGKILL)


def hang_on(poison: set[int], rows: Sequence[int]) -> None:
    if poison & set(rows):
        time.sleep(600)


def take_a_while(each: float, rows: Sequence[int]) -> None:
    time.sleep(each * len(rows))


def refuse(payload: None, rows: Sequence[int]) -> None:
    raise CorruptError(f"row {rows[0]} is no image")


class StubbornError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def refuse_stubbornly(payload: None, rows: Sequence[int]) -> None:
    raise StubbornError("not", "picklable")


def chatter(poison: set[int], rows: Sequence[int]) -> None:
    print("a library prints" * 10_000, flush=True)
    os.write(1, b"and so does its C part")
    sys.stdin.read()
    die_on(poison, rows)


def leave_a_mark(folder: str, rows: Sequence[int]) -> None:
    (Path(folder) / str(os.getpid())).touch()


def mark_and_hang(folder: str, rows: Sequence[int]) -> None:
    leave_a_mark(folder, rows)
    time.sleep(600)


class DeadlyToUnpickle:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _last_words, ("a library is missing",)


def _last_words(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
    os._exit(3)


@pytest.mark.parametrize("poison", [{5}, {0, 9}, {3, 4}, set(range(10)), set()])
def test_exactly_the_rows_that_kill_are_named(poison: set[int]) -> None:
    found = find_poison(die_on, poison, range(10))
    assert found == [Poison((row,), "killed by signal 9") for row in sorted(poison)]


def test_rows_are_named_by_their_numbers_not_their_places() -> None:
    assert find_poison(die_on, {70}, [40, 70, 90]) == [Poison((70,), "killed by signal 9")]


def test_an_exit_code_is_told() -> None:
    assert find_poison(leave_on, {1}, range(3)) == [Poison((1,), "exit code 139")]


def test_rows_that_kill_only_together_are_named_together() -> None:
    assert find_poison(die_of_all_three, {0, 1, 2}, range(3)) == [Poison((0, 1, 2), "killed by signal 9")]


def test_a_row_that_died_of_its_predecessors_is_not_named_alone(tmp_path: Path) -> None:
    found = find_poison(die_of_what_came_before, str(tmp_path), range(6))
    assert found == [Poison((3, 4, 5), "killed by signal 9")]


def test_a_row_that_hangs_is_found() -> None:
    assert find_poison(hang_on, {2}, range(4), seconds=0.3) == [Poison((2,), "took more than 0.3 s")]


def test_a_set_that_is_only_large_is_not_poison() -> None:
    assert find_poison(take_a_while, 0.2, range(4), seconds=0.6) == []


def test_an_exception_of_the_probe_comes_back_as_it_was() -> None:
    with pytest.raises(CorruptError, match="row 4 is no image"):
        find_poison(refuse, None, [4])


def test_an_exception_that_does_not_unpickle_still_comes_back() -> None:
    with pytest.raises(RuntimeError, match="StubbornError: not picklable"):
        find_poison(refuse_stubbornly, None, [4])


def test_prints_of_libraries_do_not_reach_the_channel() -> None:
    assert find_poison(chatter, {1}, range(2)) == [Poison((1,), "killed by signal 9")]


def test_a_child_that_cannot_start_says_why() -> None:
    with pytest.raises(PermanentError, match=r"exit code 3.*a library is missing"):
        find_poison(die_on, DeadlyToUnpickle(), range(2))


def test_no_child_is_left(tmp_path: Path) -> None:
    find_poison(leave_a_mark, str(tmp_path), range(2))
    (mark,) = tmp_path.iterdir()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(mark.name)).wait(10)  # its new parent still has to notice that it has ended


def test_a_child_that_hangs_is_not_left(tmp_path: Path) -> None:
    find_poison(mark_and_hang, str(tmp_path), [0], seconds=0.3)
    for mark in tmp_path.iterdir():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(int(mark.name)).wait(10)


def test_no_rows_ask_no_child(tmp_path: Path) -> None:
    assert find_poison(leave_a_mark, str(tmp_path), []) == []
    assert not list(tmp_path.iterdir())


def test_a_dask_worker_survives_the_search(cluster: Cluster) -> None:
    worker = cluster.client.submit(os.getpid, pure=False).result()
    found = cluster.client.submit(find_poison, die_on, {2, 3}, range(6), pure=False).result()
    assert found == [Poison((2,), "killed by signal 9"), Poison((3,), "killed by signal 9")]
    assert psutil.pid_exists(worker)
