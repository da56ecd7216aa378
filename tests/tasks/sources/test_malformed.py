"""Archives that are broken or not to be trusted are refused, by name, with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.sources import open_source
from tests.tasks.sources.packing import cut, zip_with

ENTRIES = [("train/1_left.jpeg", b"left" * 50), ("train/1_right.jpeg", b"right" * 50), ("a.csv", b"image,level\n")]


def packed(entries: list[tuple[str, bytes]] = ENTRIES, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(sink, "w", method) as archive:
        warnings.simplefilter("ignore")  # of entries with one name
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return sink.getvalue()


def patched(field: int, layout: str, value: int, data: bytes = b"") -> bytes:
    """The first entry of the directory with another value in it."""
    data = data or packed()
    at = data.index(b"PK\1\2") + field
    return data[:at] + struct.pack(layout, value) + data[at + struct.calcsize(layout) :]


def end_patched(field: int, layout: str, value: int) -> bytes:
    data = packed()
    at = data.rindex(b"PK\5\6") + field
    return data[:at] + struct.pack(layout, value) + data[at + struct.calcsize(layout) :]


def zip_link(name: str) -> bytes:
    return patched(38, "<I", 0o120777 << 16, patched(4, "<H", 3 << 8 | 20, packed([(name, b"../x.jpg")])))


def without(data: bytes, start: int, size: int) -> bytes:
    return data[:start] + data[start + size :]


def tarred(*changes: tuple[str, dict[str, object]], style: int = tarfile.PAX_FORMAT) -> bytes:
    """Two images, then an entry of each name with those fields set."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=style) as archive:
        for name, data in ENTRIES[:2]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, fields in changes:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(b"\0" * info.size))
    return sink.getvalue()


def tar_link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    return tarred((name, {"type": kind, "linkname": target}))


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


ZIPS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "not a zip archive"),
    "no zip": (b"<html>please log in</html>" * 20, "not a zip archive; download it again"),
    "end cut off": (packed()[:-30], "its end is missing: the archive is cut"),
    "first half only": (packed()[: len(packed()) // 2], "its end is missing"),
    "bytes lost in the middle": (without(packed(), 60, 7), "7 bytes from where it should be: the archive is cut"),
    "bytes lost in the directory": (without(packed(), packed().index(b"PK\1\2") + 20, 9), "9 bytes from where"),
    "directory shorter than it says": (end_patched(10, "<H", 4), "has 3 entries, not 4"),
    "directory overwritten": (patched(0, "<4s", b"XXXX"), "breaks off after 0 of 3"),  # type: ignore[arg-type]
    "name longer than the directory": (patched(28, "<H", 60000), "breaks off after 0 of 3"),
    "entry behind the directory": (patched(42, "<I", 5000), "ends behind the directory"),
    "zip64 field missing": (patched(42, "<I", 0xFFFFFFFF), "has no zip64 field"),
    "spanned": (end_patched(4, "<H", 3), r"spanned archive .*zip -s 0 a\.zip"),
    "climbs": (packed([("../1_left.jpeg", b"x")]), r"'\.\./1_left\.jpeg' climbs out"),
    "climbs further in": (packed([("train/../../x.csv", b"x")]), "climbs out"),
    "climbs with backslashes": (packed([("..\\1_left.jpeg", b"x")]), "climbs out"),
    "climbs within": (packed([("train\\..\\..\\x", b"x")]), "climbs out"),
    "absolute": (packed([("/etc/x.jpeg", b"x")]), "is no path below a folder"),
    "absolute with a backslash": (packed([("\\x.jpeg", b"x")]), "is no path below a folder"),
    "drive letter": (packed([("C:/x.jpeg", b"x")]), "is no path below a folder"),
    "drive letter without a slash": (packed([("c:x.jpeg", b"x")]), "is no path below a folder"),
    "encrypted": (patched(8, "<H", 1), r"'train/1_left\.jpeg' is encrypted"),
    "deflate64": (patched(10, "<H", 9), "packed with deflate64, and only stored and deflate"),
    "bzip2": (packed(method=zipfile.ZIP_BZIP2), "packed with bzip2"),
    "lzma": (packed(method=zipfile.ZIP_LZMA), "packed with LZMA"),
    "unheard-of method": (patched(10, "<H", 77), "packed with method 77"),
    "two of one name": (packed([*ENTRIES, ENTRIES[0]]), r"two entries called 'train/1_left\.jpeg'"),
    "two of one name once plain": (packed([("a/b.jpg", b"x"), ("a//b.jpg", b"y")]), r"two entries called 'a/b\.jpg'"),
    "an image that is a link": (zip_link("1_left.jpeg"), "is a link, not a file"),
}
TARS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "without an end mark"),
    "no tar": (b"<html>please log in</html>" * 40, "not a tar archive"),
    "gzip": (gzip.compress(tarred()), r"packed with gzip; unpack it once"),
    "bzip2": (bz2.compress(tarred()), "packed with bzip2"),
    "cut within a file": (tarred()[:600], "is cut"),
    "cut between files": (tarred()[:1024], "without an end mark: the archive is cut"),
    "cut within a header": (tarred()[:1200], "in the middle of an entry"),
    "flipped header byte": (flipped(tarred(), 1024 + 3), "the header at byte 1024 is damaged"),
    "overwritten header": (tarred()[:1024] + b"x" * 512 + tarred()[1536:], "the header at byte 1024 is damaged"),
    "two joined": (tarred() + tarred(), "follow its end mark"),
    "climbs": (tarred(("../x.jpeg", {})), "climbs out"),
    "climbs in an extended header": (tarred(("../é.jpeg", {})), "climbs out"),
    "climbs in a long name": (tarred(("../" + "x" * 200, {}), style=tarfile.GNU_FORMAT), "climbs out"),
    "absolute": (tarred(("/x.jpeg", {})), "is no path below a folder"),
    "two of one name": (tarred(("train/1_left.jpeg", {})), "two entries called"),
    "an image that is a link": (tar_link("train/2.jpeg", "1_left.jpeg"), "is a link, not a file"),
    "an image that is a hard link": (tar_link("2.jpeg", "train/1_left.jpeg", tarfile.LNKTYPE), "is a link, not a file"),
    "a link that leads out": (tar_link("train/readme", "../../secret"), "leads out of the archive"),
    "a link to an absolute path": (tar_link("readme", "/etc/passwd"), "leads out of the archive"),
    "a hard link that leads out": (tar_link("train/readme", "../x", tarfile.LNKTYPE), "leads out of the archive"),
    "an image that is a device": (tarred(("x.jpeg", {"type": tarfile.CHRTYPE})), "is a device"),
    "an image that is a pipe": (tarred(("x.png", {"type": tarfile.FIFOTYPE})), "is a pipe"),
    "a sparse file": (tarred(("x", {"type": tarfile.GNUTYPE_SPARSE})), "is a sparse file"),
    "an unknown type": (tarred(("x", {"type": b"Z"})), "of an unknown type"),
    "an extended header of gigabytes": (
        tarred(("x", {"type": tarfile.XHDTYPE, "size": 2 << 20})),
        "extended header at .* is too long",
    ),
}
CASES = [(f"a.{kind}", *case) for kind, cases in (("zip", ZIPS), ("tar", TARS)) for case in cases.values()]
NAMES = [f"{kind}: {name}" for kind, cases in (("zip", ZIPS), ("tar", TARS)) for name in cases]


@pytest.mark.parametrize(("file", "data", "message"), CASES, ids=NAMES)
def test_a_malformed_archive_is_refused(tmp_path: Path, file: str, data: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(data)
    for root in (tmp_path / file, tmp_path):
        with pytest.raises(CorpusError, match=message) as caught:
            open_source(root).files()
        assert file in str(caught.value)


def _gap(first: Path) -> None:
    first.with_name("x.zip.003").unlink()


def _headless(first: Path) -> None:
    first.unlink()


def _tailless(first: Path) -> None:
    first.with_name("x.zip.005").unlink()


def _short(first: Path) -> None:
    part = first.with_name("x.zip.003")
    part.write_bytes(part.read_bytes()[:-5])


def _empty(first: Path) -> None:
    first.with_name("x.zip.005").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_gap, r"/x\.zip\.003 is missing \(x\.zip\.001, x\.zip\.002, x\.zip\.004, x\.zip\.005 are there\)"),
        (_headless, r"/x\.zip\.001 is missing"),
        (_tailless, r"x\.zip\.001: its end is missing: the archive is cut, or a part is missing or short"),
        (_short, r"/x\.zip\.003: \d+ bytes, but other parts have \d+: it is cut"),
        (_empty, r"/x\.zip\.005: 0 bytes: it is cut"),
    ],
)
def test_a_part_that_is_missing_or_short_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    whole = zip_with(tmp_path / "whole", ENTRIES, zipfile.ZIP_STORED)
    first = cut(whole, tmp_path / "c/x.zip.001", 5)
    damage(first)
    with pytest.raises(CorpusError, match=message):
        open_source(first.parent).files()
    if first.exists():
        with pytest.raises(CorpusError, match=message):
            open_source(first).files()


def test_another_part_than_the_first_is_told(tmp_path: Path) -> None:
    cut(zip_with(tmp_path / "whole", ENTRIES), tmp_path / "x.zip.001", 3)
    with pytest.raises(CorpusError, match=r"name the first part, x\.zip\.001"):
        open_source(tmp_path / "x.zip.002").files()


def test_a_packed_tar_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tarred()))
    with pytest.raises(CorpusError, match=r"a\.tar\.gz: a packed tar .*gunzip"):
        open_source(tmp_path / "a.tar.gz").files()


def test_archives_that_disagree_are_told(tmp_path: Path) -> None:
    zip_with(tmp_path / "a.zip", [("x.jpg", b"one")])
    zip_with(tmp_path / "b.zip", [("x.jpg", b"two")])
    with pytest.raises(CorpusError, match=r"a\.zip and .*b\.zip hold different files called 'x\.jpg'"):
        open_source(tmp_path).files()


def test_a_place_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    zip_with(tmp_path / "corpus.zip", ENTRIES)
    with pytest.raises(CorpusError, match=r"corpus\.zi: no such folder or archive; .* holds corpus\.zip"):
        open_source(tmp_path / "corpus.zi")


def test_a_file_that_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(b"7z")
    with pytest.raises(CorpusError, match=r"a\.7z: not a folder, and no archive that is read in place"):
        open_source(tmp_path / "a.7z").files()


def test_links_that_are_no_images_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_link("train/readme", "1_left.jpeg"))
    (tmp_path / "b.zip").write_bytes(zip_link("readme"))
    assert len(open_source(tmp_path / "a.tar").files()) == 2
    assert len(open_source(tmp_path / "b.zip").files()) == 0
