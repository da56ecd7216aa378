"""Our reading of a zip's directory against that of Python's zipfile."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.sources import open_source
from tasks.sources.archive_file import LocalBlob
from tasks.sources.zips import ZipMember, zip_members

NAMES = st.text(st.characters(codec="utf-8", exclude_characters='\\/:\0."', exclude_categories=["Cs"]), min_size=1)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])


def members(path: Path) -> list[ZipMember]:
    return list(zip_members(LocalBlob("a.zip", [str(path)])))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(PATHS, st.tuples(st.binary(max_size=300), METHODS), max_size=8),
    comment=st.binary(max_size=60).filter(lambda text: b"PK\5\6" not in text),  # zipfile takes it for the end
    streamed=st.booleans(),
)
def test_it_says_what_zipfile_says(
    tmp_path: Path, files: dict[str, tuple[bytes, int]], comment: bytes, streamed: bool
) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        if streamed:  # sizes then stand behind the data, not before
            file.seekable = lambda: False  # type: ignore[method-assign]
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = comment
            for name, (data, method) in files.items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
    with zipfile.ZipFile(path) as archive:
        wanted = [
            (i.filename, i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC)
            for i in archive.infolist()
        ]
    assert members(path) == wanted
    source = open_source(path)
    read = {row["path"]: source.read(row["path"], row["stamp"]) for row in source.files().to_pylist()}
    assert read == {name: data for name, (data, _) in files.items()}


def test_zip64_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("big.jpg", "w", force_zip64=True) as file:
        file.write(b"x" * 10)
    data = path.read_bytes()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    # The same directory as an archive above 4 GiB has it: every value in 64 bits.
    extra = struct.pack("<HHQQQ", 1, 24, 10, 10, 0)
    entry = bytearray(data[at:end] + extra)
    entry[20:28] = b"\xff" * 8
    entry[30:32] = struct.pack("<H", len(extra))
    entry[42:46] = b"\xff" * 4
    tail = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    tail += struct.pack("<4sIQI", b"PK\6\7", 0, at + len(entry), 1)
    tail += struct.pack("<4s4H2IH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:at] + bytes(entry) + tail)
    assert members(path) == [ZipMember("big.jpg", 0, 10, 10, 0, zipfile.ZipFile(path).infolist()[0].CRC)]
    source = open_source(path)
    assert source.read("big.jpg", source.files()["stamp"][0].as_py()) == b"x" * 10


def test_folders_in_the_directory_are_no_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("train")
        archive.writestr("train/a.jpg", b"x")
    assert [m.path for m in members(tmp_path / "a.zip")] == ["train/a.jpg"]


def test_windows_names_become_paths(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename, info.create_system = "train\\a.jpg", 0
        archive.writestr(info, b"x")
    source = open_source(tmp_path / "a.zip")
    assert source.read("train/a.jpg", source.files()["stamp"][0].as_py()) == b"x"


def test_old_names_that_are_not_utf_8_are_read_as_dos_wrote_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("M.jpg", b"x")
    data = (tmp_path / "a.zip").read_bytes().replace(b"M.jpg", b"\x9a.jpg")
    (tmp_path / "a.zip").write_bytes(data)
    assert [m.path for m in members(tmp_path / "a.zip")] == ["Ü.jpg"]


@pytest.mark.parametrize(("crc", "name"), [(zlib.crc32(b"M.jpg"), "病人.jpg"), (0, "M.jpg"), (None, "M.jpg")])
def test_a_name_in_unicode_counts_where_it_is_of_this_entry(tmp_path: Path, crc: int | None, name: str) -> None:
    told = b"\x01" + struct.pack("<I", crc or 0) + "病人.jpg".encode() if crc is not None else b""
    entry = zipfile.ZipInfo("M.jpg")
    entry.extra = struct.pack("<HH", 0x7075, len(told)) + told
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, b"x")
    # An entry of plain ASCII needs no such field, so the name is another one in the archive.
    data = (tmp_path / "a.zip").read_bytes().replace(b"M.jpg", b"\x9a.jpg")
    if crc:
        data = data.replace(struct.pack("<I", crc), struct.pack("<I", zlib.crc32(b"\x9a.jpg")))
    (tmp_path / "a.zip").write_bytes(data)
    assert [m.path for m in members(tmp_path / "a.zip")] == [name.replace("M", "Ü")]


def test_more_entries_than_16_bits_count(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{number}.jpg"), b"")
    assert [m.path for m in members(tmp_path / "a.zip")] == [f"{n}.jpg" for n in range(70_000)]
