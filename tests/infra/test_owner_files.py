"""Files that nobody but their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from infra.errors import UsageError
from infra.owner_files import LARGEST_LOG, append_owner_file, owner_folder, read_owner_file, write_new_owner_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_they_lie_beside_home_and_not_in_it(home: Path) -> None:
    assert owner_folder() == home.with_name("home-private")


def test_a_file_and_its_folder_are_the_owners_alone(tmp_path: Path) -> None:
    assert write_new_owner_file(tmp_path / "a/one.key", b"1")
    assert (mode(tmp_path / "a/one.key"), mode(tmp_path / "a")) == (0o600, 0o700)


def test_a_wide_umask_does_not_open_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_new_owner_file(tmp_path / "a/one.key", b"1")
        append_owner_file(tmp_path / "a/one.log", "1\n")
    finally:
        os.umask(before)
    assert [mode(tmp_path / "a" / name) for name in ("one.key", "one.log")] == [0o600, 0o600]


def test_what_is_there_stays(tmp_path: Path) -> None:
    write_new_owner_file(tmp_path / "one.key", b"first")
    assert not write_new_owner_file(tmp_path / "one.key", b"second")
    assert read_owner_file(tmp_path / "one.key") == b"first"
    assert os.listdir(tmp_path) == ["one.key"]


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read_owner_file(tmp_path / "one.key") is None


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o620])
def test_one_that_others_may_open_is_refused(tmp_path: Path, wide: int) -> None:
    write_new_owner_file(tmp_path / "one.key", b"1")
    (tmp_path / "one.key").chmod(wide)
    with pytest.raises(UsageError, match=f"mode {wide:04o}.*chmod 600"):
        read_owner_file(tmp_path / "one.key")


def test_a_link_is_refused(tmp_path: Path) -> None:
    write_new_owner_file(tmp_path / "one.key", b"1")
    (tmp_path / "two.key").symlink_to(tmp_path / "one.key")
    with pytest.raises(UsageError, match="plain file of yours"):
        read_owner_file(tmp_path / "two.key")


def test_a_log_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text("before\n")
    (tmp_path / "one.log").chmod(0o644)
    append_owner_file(tmp_path / "one.log", "after\n")
    assert mode(tmp_path / "one.log") == 0o600
    assert (tmp_path / "one.log").read_text() == "before\nafter\n"


def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    with (tmp_path / "one.log").open("wb") as file:
        file.truncate(LARGEST_LOG + 1)
    append_owner_file(tmp_path / "one.log", "after\n")
    assert (tmp_path / "one.log").read_text() == "after\n"
