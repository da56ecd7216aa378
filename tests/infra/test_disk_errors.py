"""Disks that take nothing more: the message names disk, path and what to do. Real file systems, in a namespace."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.disk_errors import disk_error
from infra.errors import DiskError
from infra.storage.local_store import LocalStore
from infra.storage.store import open_store

WRITE = """
import sys
from infra.storage.store import open_store
try:
    open_store(sys.argv[1]).put("shards/x/a.tar", bytes(200_000))
except Exception as error:
    print(type(error).__name__, error)
"""


def in_namespace(folder: Path, commands: str) -> str:
    """What writing a store in `folder` prints, after these shell commands in a mount namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here: full and read-only disks are not tested")
    script = f'set -e; cd "$1"; {commands}; exec "$2" -c "$3" "$1/store"'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, "sh", str(folder), sys.executable, WRITE],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_full_disk_is_named_with_its_room_and_what_to_free(tmp_path: Path) -> None:
    said = in_namespace(tmp_path, "mount -t tmpfs -o size=100k small .; cd .")
    assert said.startswith(f"DiskError {tmp_path}/store/shards/x/a.tar: the disk at {tmp_path} (small) is full")
    assert "0.00 of 0.00 GiB free); free space there, then run again: `stillroom gc STORE --delete`" in said


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    said = in_namespace(tmp_path, "mkdir store; mount -t tmpfs -o ro fixed store")
    assert said == (
        f"DiskError {tmp_path}/store/shards/x/a.tar: the disk at {tmp_path}/store (fixed) is read-only; "
        "have it mounted for writing, or write elsewhere\n"
    )


def test_a_quota_and_a_refusal_name_the_user(tmp_path: Path) -> None:
    for number, told in [(errno.EDQUOT, "quota of user"), (errno.EACCES, "may not write there")]:
        found = disk_error(OSError(number, os.strerror(number)), tmp_path)
        assert isinstance(found, DiskError)
        assert told in str(found)
        assert str(os.geteuid()) in str(found)


def test_other_errors_are_none_of_a_disk(tmp_path: Path) -> None:
    assert disk_error(OSError(errno.EIO, "input/output error"), tmp_path) is None
    assert disk_error(ValueError("x"), tmp_path) is None


def test_a_file_where_a_folder_should_be_is_no_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "shards").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="a file lies where a folder should"):
        open_store(tmp_path).put_new("shards/a.tar", b"x")


def test_each_new_folder_is_on_the_disk_before_what_lies_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}").removeprefix(f"{tmp_path}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    LocalStore(tmp_path / "store").put("a/b/c", b"x")
    folders = [place for place in synced if ".part-" not in place]
    assert folders == ["", "/store", "/store/a", "/store/a/b"]
