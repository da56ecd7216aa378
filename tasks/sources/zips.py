"""Zip archives, read in place: the directory once, then each member from its stamp alone.

Not by Python's zipfile. For a million entries it takes 580 MiB where this file takes some blocks, and it lists without
complaint what tests/tasks/sources/test_malformed.py refuses: archives with bytes missing, spanned or encrypted ones,
entries that lie behind the directory. Its reader of one member has no documented constructor without the directory.

Source of the format: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import errno
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from infra.errors import CorpusError
from tasks.sources.archive_file import Blob, entry_path, refuse
from tasks.sources.base import BLOCK, LARGEST, SourceFileChangedError, too_large
from tasks.sources.passed_over import IMAGE_SUFFIXES

METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 20: "zstd", 93: "zstd", 95: "xz", 98: "PPMd", 99: "AES"}
STORED, DEFLATED = 0, 8
CHUNK = 4 << 20
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_LOCAL = struct.Struct("<4s5H3I2H")
_BIG, _MANY = 0xFFFFFFFF, 0xFFFF
_ZIP64, _UNICODE_NAME = 0x0001, 0x7075  # extra fields of an entry
_WINDOWS = (0, 10, 11, 14)  # systems whose names have backslashes as separators
_SLACK = 1024  # name and extra field of nearly every local header, read along with the data


class ZipMember(NamedTuple):
    """A file in a zip."""

    path: str
    offset: int  # of its local header
    packed: int
    size: int
    method: int
    crc: int


def zip_members(blob: Blob) -> Iterator[ZipMember]:
    """Every file of a zip, in the order of its directory.

    Raises:
        CorpusError: the archive is cut, spanned or encrypted, packed by another method than deflate, or an entry's
            name leaves its folder.
    """
    count, start, size = _directory(blob)
    data, at, read, seen = b"", 0, 0, 0
    while True:
        if len(data) - at < _ENTRY.size + 3 * _MANY and read < size:
            more = blob.at(start + read, min(CHUNK, size - read))
            data, at, read = data[at:] + more, 0, read + len(more)
        if at == len(data):
            break
        if len(data) - at < _ENTRY.size or data[at : at + 4] != b"PK\1\2":
            raise _cut(blob, f"its directory breaks off after {seen} of {count} entries")
        fields = _ENTRY.unpack_from(data, at)
        name_size, extra_size, comment_size = fields[10:13]
        at += _ENTRY.size
        extra_at = at + name_size
        if extra_at + extra_size + comment_size > len(data):
            raise _cut(blob, f"its directory breaks off after {seen} of {count} entries")
        member = _member(blob, fields, data[at:extra_at], data[extra_at : extra_at + extra_size], start)
        at = extra_at + extra_size + comment_size
        seen += 1
        if member is not None:
            yield member
    if seen & _MANY != count & _MANY:
        raise _cut(blob, f"its directory has {seen} entries, not {count}")


def _directory(blob: Blob) -> tuple[int, int, int]:
    """(entries, offset, size) of the central directory."""
    tail_size = min(blob.size, _END.size + _MANY + _LOCATOR.size)
    tail = blob.at(blob.size - tail_size, tail_size)
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and (len(tail) - at < _END.size or at + _END.size + _END.unpack_from(tail, at)[7] != len(tail)):
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        if blob.at(0, min(4, blob.size)) not in (b"PK\3\4", b"PK\7\x08"):
            raise CorpusError(f"{blob.name}: not a zip archive; download it again")
        raise _cut(blob, "its end is missing")
    _, disk, first_disk, _, count, size, start, _ = _END.unpack_from(tail, at)
    end = blob.size - len(tail) + at
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size : at - _LOCATOR.size + 4] == b"PK\6\7":
        _, disk, end, disks = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        found = blob.at(end, _END64.size) if end + _END64.size <= blob.size else b""
        if found[:4] != b"PK\6\6":
            raise _cut(blob, "its end is not where it says")
        _, _, _, _, disk, first_disk, _, count, size, start = _END64.unpack(found)
        disk = disk or disks > 1
    if (disk and disk != _MANY) or (first_disk and first_disk != _MANY):
        raise CorpusError(
            f"{blob.name}: the last part of a spanned archive (.z01 and so on); join the parts first "
            f"(zip -s 0 {blob.name.rpartition('/')[2]} --out whole.zip)"
        )
    if start + size != end:
        raise _cut(blob, f"its directory is {abs(end - start - size)} bytes from where it should be")
    return count, start, size


def _member(blob: Blob, fields: tuple[int, ...], raw: bytes, extra: bytes, directory: int) -> ZipMember | None:
    made_by, _, flags, method = fields[1:5]
    crc, packed, size = fields[7:10]
    attributes, offset = fields[15], fields[16]
    name = _text(raw, flags, extra)
    if made_by >> 8 in _WINDOWS and "\\" in name:
        name = _forward(blob, name)
    if _BIG in (size, packed, offset):
        size, packed, offset = _wide(blob, name, extra, size, packed, offset)
    path = entry_path(blob.name, name)
    if path.endswith("/") or name.endswith("/") or (not path and not size):
        return None
    if flags & 1:
        raise refuse(blob.name, name, "is encrypted, and Stillroom knows no password")
    if made_by >> 8 == 3 and attributes >> 28 == 0xA:
        if path.lower().endswith(IMAGE_SUFFIXES):
            raise refuse(blob.name, name, "is a link, not a file")
        return None
    if method not in (STORED, DEFLATED):
        shown = METHODS.get(method, f"method {method}")
        raise refuse(blob.name, name, f"is packed with {shown}, and only stored and deflate are read in place")
    if offset + 30 + packed > directory:
        raise _cut(blob, f"its entry {name!r} ends behind the directory")
    return ZipMember(path, offset, packed, size, method, crc)


def _text(raw: bytes, flags: int, extra: bytes) -> str:
    if raw.isascii():
        return raw.decode("ascii")
    told = _fields(extra).get(_UNICODE_NAME, b"")
    # The field counts where it is of this name, and not one that a tool that knows no such fields left behind.
    if len(told) > 5 and told[0] == 1 and struct.unpack_from("<I", told, 1)[0] == zlib.crc32(raw):
        return told[5:].decode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")  # many write UTF-8 and do not say so
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape") if flags & 0x800 else raw.decode("cp437")


def _fields(extra: bytes) -> dict[int, bytes]:
    """The extra fields of an entry by their number, the first of each."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        found.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def _forward(blob: Blob, name: str) -> str:
    entry_path(blob.name, name)  # refuses a climb before backslashes become slashes
    return name.replace("\\", "/")


def _wide(blob: Blob, name: str, extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset that stand in the zip64 field, for those that do not fit into 32 bits."""
    values = [size, packed, offset]
    body = _fields(extra).get(_ZIP64, b"")
    wide = list(struct.unpack_from(f"<{len(body) // 8}Q", body))
    if values.count(_BIG) > len(wide):
        raise _cut(blob, f"its entry {name!r} has no zip64 field")
    size, packed, offset = (wide.pop(0) if value == _BIG else value for value in values)
    return size, packed, offset


def _cut(blob: Blob, why: str) -> CorpusError:
    last = ", or a part is missing or short" if ".zip.0" in blob.name.lower() else ""
    return CorpusError(f"{blob.name}: {why}: the archive is cut{last}; download it again")


def zip_stamp(archive: str, member: ZipMember, etag: str = "") -> str:
    """The stamp of a member."""
    _, offset, packed, size, method, crc = member
    return f"z:{archive}:{offset}:{packed}:{size}:{method}:{crc:08x}:{etag}"


def parse_zip_stamp(stamp: str, path: str) -> tuple[str, ZipMember, str]:
    """(archive, member, etag)."""
    archive, offset, packed, size, method, crc, etag = stamp[2:].rsplit(":", 6)
    return archive, ZipMember(path, int(offset), int(packed), int(size), int(method), int(crc, 16)), etag


def zip_blocks(blob: Blob, member: ZipMember) -> Iterator[bytes]:
    """The member's bytes, checked against size and crc32.

    Raises:
        SourceFileChangedError: the archive has something else there.
        OSError: what is there does not inflate to the size and crc32 of the directory.
    """
    if member.size > LARGEST:
        raise too_large(member.path)
    found = zlib.crc32(b"")
    left = member.size
    for block in _inflated(member, _packed(blob, member)):
        found = zlib.crc32(block, found)
        left -= len(block)
        if left < 0:
            raise _broken(member)
        yield block
    if left or found != member.crc:
        raise _broken(member)


def _packed(blob: Blob, member: ZipMember) -> Iterator[bytes]:
    """The member's bytes as they lie in the archive."""
    if member.offset + _LOCAL.size > blob.size:
        raise _changed(blob, member)
    head = blob.at(member.offset, min(_LOCAL.size + _SLACK + min(member.packed, BLOCK), blob.size - member.offset))
    mark, _, flags, method, _, _, crc, _, _, name_size, extra_size = _LOCAL.unpack_from(head)
    same_crc = flags & 8 or crc == member.crc  # with flag 8 the crc stands behind the data
    if mark != b"PK\3\4" or method != member.method or not same_crc:
        raise _changed(blob, member)
    name = head[_LOCAL.size : _LOCAL.size + name_size]
    if name.isascii() and not _is_name(member.path, name.decode("ascii")):
        raise _broken(member)
    start = _LOCAL.size + name_size + extra_size
    first = head[start : start + member.packed]
    if first:
        yield first
    at, end = member.offset + start + len(first), member.offset + start + member.packed
    while at < end:
        block = blob.at(at, min(BLOCK, end - at))
        at += len(block)
        yield block


def _inflated(member: ZipMember, packed: Iterator[bytes]) -> Iterator[bytes]:
    if member.method != DEFLATED:
        yield from packed
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in packed:
            waiting = block
            while waiting and (made := inflater.decompress(waiting, BLOCK)):
                yield made
                waiting = inflater.unconsumed_tail
        while not inflater.eof and (made := inflater.decompress(b"", BLOCK)):
            yield made
    except zlib.error:
        raise _broken(member) from None
    if not inflater.eof or inflater.unused_data:
        raise _broken(member)


def _is_name(path: str, name: str) -> bool:
    """Whether a path may be what the listing made of that name: a flipped bit in either is noticed."""
    own = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    return re.split(r"[/\\]", path)[-len(own) :] == own


def _broken(member: ZipMember) -> OSError:
    return OSError(errno.EIO, "its bytes are not those that its archive promises; get the archive again", member.path)


def _changed(blob: Blob, member: ZipMember) -> SourceFileChangedError:
    return SourceFileChangedError(
        f"{blob.name}: entry {member.path} is not where the archive's directory had it: the archive changed after the "
        "corpus was listed, or it is damaged; run again, and get the archive again if that does not help"
    )
