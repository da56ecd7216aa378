"""Tar archives, read in place: every header is checked, and so is that the archive ends where it should.

Python's tarfile takes a damaged header for the end and says nothing, so it only parses single headers here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from infra.errors import CorpusError
from tasks.sources.archive_file import Blob, entry_path, refuse
from tasks.sources.base import BLOCK, LARGEST, SourceFileChangedError, too_large
from tasks.sources.passed_over import IMAGE_SUFFIXES

UNIT = 512
PADDING = 1 << 20  # bytes of zeros that may follow the end
LONGEST = 1 << 20  # bytes of an extended header
WINDOW = 64 << 10
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class TarEntry(NamedTuple):
    """A file in a tar."""

    path: str
    offset: int  # of its data
    size: int


def tar_stamp(archive: str, entry: TarEntry, version: str) -> str:
    """The stamp of an entry."""
    return f"t:{archive}:{entry.offset}:{entry.size}:{version}"


def parse_tar_stamp(stamp: str, path: str) -> tuple[str, TarEntry, str]:
    """(archive, entry, version)."""
    archive, offset, size, version = stamp[2:].rsplit(":", 3)
    return archive, TarEntry(path, int(offset), int(size)), version


def tar_entries(blob: Blob) -> Iterator[TarEntry]:
    """Every file of a tar, in its order.

    Raises:
        CorpusError: the archive is cut or damaged, an entry's name leaves its folder, or an image is a link.
    """
    packed = _COMPRESSED.get(blob.at(0, min(2, blob.size)))
    if packed:
        raise CorpusError(f"{blob.name}: packed with {packed}; unpack it once ({packed} -d), to a plain .tar")
    window = _Window(blob)
    extended: dict[str, str] = {}  # fields of the next entry from extended headers
    at = 0
    while True:
        if at == blob.size:
            raise _broken(blob, "it ends without an end mark: the archive is cut")
        header = window.at(at, UNIT)
        if header.count(0) == UNIT:
            _check_end(blob, at + UNIT)
            return
        info = _parse(blob, at, header)
        if at + UNIT + info.size > blob.size and (info.isreg() or info.type in _EXTENDED):
            raise _broken(blob, f"its entry {info.name!r} is cut")
        if info.type in _EXTENDED:
            if info.size > LONGEST:
                raise _broken(blob, f"the extended header at {at} is too long")
            extended.update(_extended(blob, info.type, window.at(at + UNIT, info.size)))
            at += UNIT + _padded(info.size)
            continue
        size = int(extended.get("size", info.size))
        name = extended.get("path", info.name)
        entry = _entry(blob, info, name, extended, TarEntry(name, at + UNIT, size))
        holds = info.type in _PLAIN or info.type not in tarfile.SUPPORTED_TYPES
        at += UNIT + (_padded(size) if holds else 0)
        extended = {}
        if at > blob.size:
            raise _broken(blob, f"its entry {name!r} is cut")
        if entry is not None:
            yield entry


def tar_blocks(blob: Blob, entry: TarEntry, version: str) -> Iterator[bytes]:
    """The entry's bytes, from an archive that stayed the same while they were read.

    Raises:
        SourceFileChangedError: the archive changed.
        OSError: it cannot be read.
    """
    if entry.size > LARGEST:
        raise too_large(entry.path)
    _same(blob, version)
    for start in range(0, entry.size, BLOCK):
        yield blob.at(entry.offset + start, min(BLOCK, entry.size - start))
    _same(blob, version)


def _same(blob: Blob, version: str) -> None:
    if blob.version != version:
        raise SourceFileChangedError(f"{blob.name}: it changed after the corpus was listed; run again to list it anew")


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _parse(blob: Blob, at: int, header: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if at == 0:
            raise CorpusError(f"{blob.name}: not a tar archive ({error}); get it again") from None
        raise _broken(blob, f"the header at byte {at} is damaged ({error})") from None
    if info.size < 0:
        raise _broken(blob, f"the header at byte {at} is damaged (negative size)")
    return info


def _extended(blob: Blob, kind: bytes, body: bytes) -> dict[str, str]:
    """Path, link and size out of an extended header."""
    if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        text = body.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return {"path" if kind == tarfile.GNUTYPE_LONGNAME else "linkpath": text}
    fields = {}
    while body.strip(b"\0"):
        length, _, _ = body.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(body):
            raise _broken(blob, "an extended header is damaged")
        record, body = body[len(length) + 1 : int(length)], body[int(length) :]
        name, _, value = record.rstrip(b"\n").partition(b"=")
        fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    sizes = fields.get("size", "0")
    if any(name.startswith("GNU.sparse") for name in fields):
        raise _broken(blob, f"its entry {fields.get('GNU.sparse.name', '')!r} is a sparse file")
    if not (sizes.isascii() and sizes.isdigit()):
        raise _broken(blob, f"an extended header gives the size {sizes!r}")
    return fields if kind != tarfile.XGLTYPE else {}


def _entry(blob: Blob, info: tarfile.TarInfo, name: str, extended: dict[str, str], found: TarEntry) -> TarEntry | None:
    path = entry_path(blob.name, name) if name.strip("./") else ""
    if info.type in _PLAIN and not name.endswith("/"):
        return found._replace(path=path)
    if info.isdir() or info.type in _PLAIN:
        return None
    if info.issym() or info.islnk():
        target = extended.get("linkpath", info.linkname)
        base = path.rpartition("/")[0] if info.issym() else ""
        if _leaves(base, target):
            raise refuse(blob.name, name, f"is a link that leads out of the archive ({target!r})")
        if path.lower().endswith(IMAGE_SUFFIXES):
            raise refuse(blob.name, name, "is a link, not a file")
        return None
    kind = _SPECIAL.get(info.type)
    if kind is None or kind == "a sparse file" or path.lower().endswith(IMAGE_SUFFIXES):
        raise refuse(blob.name, name, f"is {kind or f'of an unknown type ({info.type!r})'}, not a plain file")
    return None


def _leaves(base: str, target: str) -> bool:
    depth = base.count("/") + 1 if base else 0
    for part in target.replace("\\", "/").split("/"):
        depth += 0 if part in ("", ".") else -1 if part == ".." else 1
        if depth < 0:
            return True
    return target.startswith(("/", "\\"))


def _check_end(blob: Blob, at: int) -> None:
    rest = blob.size - at
    if rest > PADDING or blob.at(at, rest).strip(b"\0"):
        raise _broken(blob, f"{rest} bytes follow its end mark, as in two archives that were joined")


def _padded(size: int) -> int:
    return -(-size // UNIT) * UNIT


def _broken(blob: Blob, why: str) -> CorpusError:
    return CorpusError(f"{blob.name}: {why}; get the archive again, or extract it and name the folder as corpus.root")


class _Window:
    """Reads ahead, so that the headers of small members cost few reads."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._start, self._data = blob, 0, b""

    def at(self, offset: int, size: int) -> bytes:
        inside = offset - self._start
        if inside < 0 or inside + size > len(self._data):
            wanted = min(max(size, WINDOW), self._blob.size - offset)
            if wanted < size:
                raise _broken(self._blob, "it ends in the middle of an entry: the archive is cut")
            self._start, self._data, inside = offset, self._blob.at(offset, wanted), 0
        return self._data[inside : inside + size]
