"""One member of a zip, from its stamp alone: no directory is read."""

from __future__ import annotations

import errno
import re
import struct
import zlib
from collections.abc import Iterator

from tasks.sources.base import BLOCK, LARGEST, ChangedError, too_large
from tasks.sources.blob import Blob
from tasks.sources.zip_list import DEFLATED, Member

_LOCAL = struct.Struct("<4s5H3I2H")
_SLACK = 1024  # name and extra field of nearly every local header, read along with the data


def zip_stamp(archive: str, member: Member, etag: str = "") -> str:
    """The stamp of a member."""
    _, offset, packed, size, method, crc = member
    return f"z:{archive}:{offset}:{packed}:{size}:{method}:{crc:08x}:{etag}"


def parse_zip_stamp(stamp: str, path: str) -> tuple[str, Member, str]:
    """(archive, member, etag)."""
    archive, offset, packed, size, method, crc, etag = stamp[2:].rsplit(":", 6)
    return archive, Member(path, int(offset), int(packed), int(size), int(method), int(crc, 16)), etag


def zip_blocks(blob: Blob, member: Member) -> Iterator[bytes]:
    """The member's bytes, checked against size and crc32.

    Raises:
        ChangedError: the archive has something else there.
        OSError: what is there does not inflate to what the archive promises.
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


def _packed(blob: Blob, member: Member) -> Iterator[bytes]:
    """The member's bytes as they lie in the archive."""
    if member.offset + _LOCAL.size > blob.size:
        raise _changed(blob, member)
    head = blob.at(member.offset, min(_LOCAL.size + _SLACK + min(member.packed, BLOCK), blob.size - member.offset))
    mark, _, flags, method, _, _, crc, _, _, name_size, extra_size = _LOCAL.unpack_from(head)
    promised = flags & 8 or crc == member.crc
    if mark != b"PK\3\4" or method != member.method or not promised:
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


def _inflated(member: Member, packed: Iterator[bytes]) -> Iterator[bytes]:
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


def _broken(member: Member) -> OSError:
    return OSError(errno.EIO, "its bytes are not those that its archive promises; get the archive again", member.path)


def _changed(blob: Blob, member: Member) -> ChangedError:
    return ChangedError(
        f"{blob.name}: entry {member.path} is not where the archive's directory had it: the archive changed after the "
        "corpus was listed, or it is damaged; run again, and get the archive again if that does not help"
    )
