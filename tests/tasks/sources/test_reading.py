"""A file is read as it was listed, or an error says why not."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import CorpusError
from tasks.sources import Source, SourceFileChangedError, open_source
from tasks.sources.archive_file import LocalBlob, OpenArchives
from tests.tasks.sources.packing import cut, tar_of, zip_of, zip_with

JPEG = random.Random(0).randbytes(3000)


def rows(source: Source) -> dict[str, tuple[int, str]]:
    return {r["path"]: (r["size"], r["stamp"]) for r in source.files().to_pylist()}


def stamp_of(source: Source, path: str) -> str:
    return rows(source)[path][1]


def refused(source: Source, path: str, stamp: str) -> OSError:
    """The error that both ways of reading end with."""
    with pytest.raises(OSError) as by_digest:
        source.digest(path, stamp)
    with pytest.raises(OSError) as caught:
        source.read(path, stamp)
    assert (caught.value.errno, caught.value.strerror) == (by_digest.value.errno, by_digest.value.strerror)
    return caught.value


def test_a_stamp_of_a_folder_changes_with_the_file_and_the_old_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    stamp = stamp_of(open_source(tmp_path), "a.jpg")
    (tmp_path / "a.jpg").write_bytes(JPEG[::-1])
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    with pytest.raises(SourceFileChangedError, match=r"a\.jpg: it changed after the corpus was listed"):
        open_source(tmp_path).read("a.jpg", stamp)
    assert stamp_of(open_source(tmp_path), "a.jpg") != stamp


def test_a_file_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    source = open_source(tmp_path)
    stamp = stamp_of(source, "a.jpg")
    (tmp_path / "a.jpg").unlink()
    assert refused(source, "a.jpg", stamp).errno == errno.ENOENT


def test_links_to_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.jpg").write_bytes(JPEG)
    (tmp_path / "linked.jpg").symlink_to("real/a.jpg")
    source = open_source(tmp_path)
    assert set(rows(source)) == {"linked.jpg", "real/a.jpg"}
    assert source.read("linked.jpg", stamp_of(source, "linked.jpg")) == JPEG


def test_a_link_to_a_folder_elsewhere_is_a_folder(tmp_path: Path) -> None:
    for folder in ("corpus", "archive/ulcer"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "archive/ulcer/a.jpg").write_bytes(JPEG)
    (tmp_path / "corpus/ulcer").symlink_to(tmp_path / "archive/ulcer")
    source = open_source(tmp_path / "corpus")
    assert set(rows(source)) == {"ulcer/a.jpg"}
    assert source.read("ulcer/a.jpg", stamp_of(source, "ulcer/a.jpg")) == JPEG
    assert source.notes == []


@pytest.mark.parametrize("target", ["real", ".", "..", "real/.."])
def test_a_link_to_what_is_listed_already_is_not_followed_and_counted(tmp_path: Path, target: str) -> None:
    (tmp_path / "corpus/real").mkdir(parents=True)
    (tmp_path / "corpus/real/a.jpg").write_bytes(JPEG)
    (tmp_path / "corpus/link").symlink_to(target)
    source = open_source(tmp_path / "corpus")
    assert set(rows(source)) == {"real/a.jpg"}
    assert source.notes == ["1 links to folders that are listed already, or that hold them, are not followed"]


def test_of_two_links_to_one_folder_the_first_by_name_is_followed(tmp_path: Path) -> None:
    for folder in ("corpus", "archive"):
        (tmp_path / folder).mkdir()
    (tmp_path / "archive/a.jpg").write_bytes(JPEG)
    for name in ("b", "a"):
        (tmp_path / "corpus" / name).symlink_to(tmp_path / "archive")
    assert set(rows(open_source(tmp_path / "corpus"))) == {"a/a.jpg"}


def test_a_link_that_leads_nowhere_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    source = open_source(tmp_path)
    assert "a link that leads nowhere" in refused(source, "a.jpg", stamp_of(source, "a.jpg")).strerror


def test_a_name_that_is_not_utf_8_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.jpg")).write_bytes(JPEG)
    source = open_source(tmp_path)
    assert refused(source, "a\\xff.jpg", stamp_of(source, "a\\xff.jpg")).strerror.startswith("file name is not UTF-8")


def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path: Path) -> None:
    source = open_source(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(CorpusError, match=r"cannot be listed \(No such file or directory\)"):
        source.files()


def test_a_file_of_more_than_a_gigabyte_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate((1 << 30) + 1)
    source = open_source(tmp_path)
    assert refused(source, "a.jpg", stamp_of(source, "a.jpg")).errno == errno.EFBIG


def test_a_zip_member_that_inflates_to_more_than_it_says_is_refused_early(tmp_path: Path) -> None:
    data = zlib.compress(bytes(300 << 20), 9)[2:-4]
    name = b"a.jpg"
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, zlib.crc32(b"x"), len(data), 1, len(name), 0)
    local = b"PK\3\4" + common + name + data
    entry = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    (tmp_path / "bomb.zip").write_bytes(local + entry + end)
    source = open_source(tmp_path / "bomb.zip")
    assert rows(source)["a.jpg"][0] == 1
    assert "not those that its archive promises" in refused(source, "a.jpg", stamp_of(source, "a.jpg")).strerror


def test_a_zip_member_that_says_more_than_a_gigabyte_is_refused(tmp_path: Path) -> None:
    source = open_source(zip_with(tmp_path / "a.zip", [("a.jpg", JPEG)]))
    archive, offset, packed, _, *rest = stamp_of(source, "a.jpg").rsplit(":", 6)
    stamp = ":".join((archive, offset, packed, str((1 << 30) + 1), *rest))
    assert refused(source, "a.jpg", stamp).errno == errno.EFBIG


def test_a_replaced_zip_is_noticed_although_the_old_one_was_open(tmp_path: Path) -> None:
    place = zip_with(tmp_path / "a.zip", [("a.jpg", JPEG)], zipfile.ZIP_STORED)
    source = open_source(place)
    stamp = stamp_of(source, "a.jpg")
    assert source.read("a.jpg", stamp) == JPEG
    zip_with(tmp_path / "b.zip", [("a.jpg", JPEG[::-1])], zipfile.ZIP_STORED).replace(place)
    with pytest.raises(SourceFileChangedError, match=r"a\.zip: entry a\.jpg is not where"):
        source.read("a.jpg", stamp)


def test_a_zip_that_was_only_copied_keeps_its_stamps(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    first = zip_with(tmp_path / "a.zip", [("a.jpg", JPEG)])
    second = Path(shutil.copyfile(first, tmp_path / "copy.zip")).rename(tmp_path / "c/a.zip")
    assert rows(open_source(first)) == rows(open_source(second))


def test_a_touched_tar_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/a.jpg").write_bytes(JPEG)
    place = tar_of(tmp_path / "f", tmp_path / "a.tar")
    source = open_source(place)
    stamp = stamp_of(source, "a.jpg")
    os.utime(place, ns=(5, 5))
    with pytest.raises(SourceFileChangedError, match=r"a\.tar: it changed"):
        source.read("a.jpg", stamp)


def test_many_threads_read_one_archive_in_parts(tmp_path: Path) -> None:
    entries = [(f"{i:03d}.jpg", random.Random(i).randbytes(500 + i)) for i in range(200)]
    whole = zip_with(tmp_path / "whole", entries)
    source = open_source(cut(whole, tmp_path / "a.zip.001", 7))
    stamps = rows(source)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda e: source.read(e[0], stamps[e[0]][1]), entries * 3))
    assert read == [data for _, data in entries] * 3


def opened_below(folder: Path) -> int:
    """How many files of a folder this process holds open; other threads of it open and close files of their own."""
    count = 0
    for handle in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed since it was listed
            count += Path(os.readlink(f"/proc/self/fd/{handle}")).is_relative_to(folder)
    return count


def test_archives_open_for_long_are_closed_when_others_are_read(tmp_path: Path) -> None:
    opened = OpenArchives(most=2)
    places = [zip_with(tmp_path / f"{n}.zip", [("a", b"x")]) for n in "abcd"]
    held: LocalBlob = opened.get(str(places[0]))
    for place in places[1:]:
        opened.get(str(place))
    assert held.at(0, 4) == b"PK\3\4"  # still open for who holds it
    assert opened_below(tmp_path) == 3
    del held
    assert opened_below(tmp_path) == 2


CONTENT = {f"train/{n}.jpeg": random.Random(n).randbytes(60 + n) for n in range(6)}


def refused_or_right(place: Path) -> int:
    """How many files of a damaged archive of CONTENT were read; each is right, and none is missing from its listing."""
    source = open_source(place)
    try:
        listed = rows(source)
    except CorpusError:
        return 0
    assert len(listed) == len(CONTENT)
    count = 0
    for path, (_, stamp) in listed.items():
        try:
            read = source.read(path, stamp)
        except (OSError, SourceFileChangedError):
            continue
        assert read == CONTENT[path]
        count += 1
    return count


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.data())
def test_a_damaged_zip_gives_an_error_or_the_right_bytes(tmp_path: Path, method: int, damage: st.DataObject) -> None:
    place = zip_with(tmp_path / "a.zip", CONTENT.items(), method)
    data = place.read_bytes()
    at = damage.draw(st.integers(0, len(data) - 1))
    if damage.draw(st.booleans()):
        data = data[:at]
    else:
        data = data[:at] + bytes([data[at] ^ 1 << damage.draw(st.integers(0, 7))]) + data[at + 1 :]
    place.write_bytes(data)
    refused_or_right(place)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.data())
def test_a_tar_with_a_damaged_header_or_a_cut_is_refused_or_read_right(tmp_path: Path, damage: st.DataObject) -> None:
    folder = tmp_path / "f/train"
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in CONTENT.items():
        (tmp_path / "f" / path).write_bytes(data)
    place = tar_of(tmp_path / "f", tmp_path / "a.tar")
    data = place.read_bytes()
    if damage.draw(st.booleans()):
        data = data[: damage.draw(st.integers(0, 12 * 512))]
    else:
        at = 1024 * damage.draw(st.integers(0, 5)) + damage.draw(st.integers(0, 511))
        data = data[:at] + bytes([data[at] ^ 1 << damage.draw(st.integers(0, 7))]) + data[at + 1 :]
    place.write_bytes(data)
    # The last byte of a header's checksum field, for one, says nothing.
    assert refused_or_right(place) in (0, len(CONTENT))


def test_a_zip_in_a_folder_reads_as_the_zip_itself(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/a.jpg").write_bytes(JPEG)
    place = zip_of(tmp_path / "f", tmp_path / "c/sub/a.zip")
    alone, below = open_source(place), open_source(tmp_path / "c")
    assert below.read("sub/a.jpg", stamp_of(below, "sub/a.jpg")) == alone.read("a.jpg", stamp_of(alone, "a.jpg"))
