"""Zip bombs: the entries that overlap or promise too much cannot be read, each by its name; the others can."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sources import open_source
from tasks.sources.base import Source
from tasks.sources.zip_bombs import ABSURD, LARGE, OVERLAP, Extents, is_absurd
from tasks.sources.zips import DEFLATED, ZipMember
from tests.tasks.sources.packing import zip_with

KERNEL = bytes(40_000)


def quoting_bomb(names: Sequence[str]) -> bytes:
    """A zip whose entries all unpack the same packed bytes; the header of each lies in the data of that before it."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(KERNEL) + kernel.flush()
    # From the last to the first: a stored block that quotes the next header, then all that follows it.
    bodies, body, data = [], packed, KERNEL
    for name in reversed(names):
        head = (
            struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, zlib.crc32(data), len(body), len(data), len(name), 0)
            + name.encode()
        )
        bodies.append((name, zlib.crc32(data), len(body), len(data), len(head) + len(body)))
        quoted = struct.pack("<BHH", 0, len(head), len(head) ^ 0xFFFF) + head
        whole, body, data = head + body, quoted + body, head + data
    directory = b""
    for name, crc, size, unpacked, tail in reversed(bodies):
        directory += (
            struct.pack(
                "<4s6H3I5H2I",
                b"PK\1\2",
                20,
                20,
                0,
                8,
                0,
                0,
                crc,
                size,
                unpacked,
                len(name),
                0,
                0,
                0,
                0,
                0,
                len(whole) - tail,
            )
            + name.encode()
        )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(directory), len(whole), 0)
    return whole + directory + end


def reasons(source: Source) -> dict[str, str]:
    """Why each file cannot be read; "" where it can."""
    found = {}
    for row in source.files().to_pylist():
        try:
            source.read(row["path"], row["stamp"])
            found[row["path"]] = ""
        except OSError as error:
            found[row["path"]] = error.strerror
    return found


def test_the_bomb_is_one_that_the_library_unpacks(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    bomb.write_bytes(quoting_bomb(["a.png", "b.png"]))
    with zipfile.ZipFile(bomb) as archive:
        assert archive.read("b.png") == KERNEL


def test_entries_that_overlap_are_named_and_other_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "bomb.zip").write_bytes(quoting_bomb([f"{number}.png" for number in range(50)]))
    zip_with(tmp_path / "good.zip", [("good.png", b"pixels")])
    found = reasons(open_source(str(tmp_path)))
    assert found.pop("good.png") == ""
    assert {found[f"{number}.png"] for number in range(50)} == {OVERLAP}


def test_an_entry_that_promises_more_than_it_can_hold_is_named(tmp_path: Path) -> None:
    zip_with(tmp_path / "x.zip", [("a.png", bytes(2000)), ("b.png", b"pixels")])
    data = (tmp_path / "x.zip").read_bytes()
    at = data.index(b"PK\1\2") + 24
    (tmp_path / "x.zip").write_bytes(data[:at] + struct.pack("<I", 1 << 29) + data[at + 4 :])
    found = reasons(open_source(str(tmp_path)))
    assert (found["a.png"], found["b.png"]) == (ABSURD, "")


@pytest.mark.parametrize(
    ("size", "packed", "absurd"), [(LARGE, LARGE // 1000, False), (LARGE + 1, LARGE // 1000, True)]
)
def test_only_large_entries_may_not_be_blank(size: int, packed: int, absurd: bool) -> None:
    assert is_absurd(ZipMember("a", 0, packed, size, DEFLATED, 0)) is absurd


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=30))
def test_exactly_the_entries_that_share_a_byte_are_found(placed: list[tuple[int, int]]) -> None:
    extents = Extents()
    spans = []
    for offset, packed in placed:
        extents.add(ZipMember("", offset, packed, packed, 0, 0))
        spans.append((offset, offset + 30 + packed))
    found = extents.overlapping().tolist()
    for one, (start, end) in enumerate(spans):
        shares = any(start < e and s < end for two, (s, e) in enumerate(spans) if two != one)
        assert found[one] == shares
