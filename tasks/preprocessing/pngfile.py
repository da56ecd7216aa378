"""A PNG file as a row of chunks (PNG specification, third edition, 5): header, wholeness, metadata.

Pillow's `verify` does not replace the walk over the chunks, which removing metadata needs anyway. It refuses whole
pictures for their metadata (text of more than a mebibyte, a short gAMA or pHYs chunk) or their size, and takes a file
that is cut within its last chunk.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.preprocessing.exif import UPRIGHT, orientation_block, read_orientation
from tasks.preprocessing.unreadable import UnreadableError

PNG_START = b"\x89PNG\r\n\x1a\n"
# gAMA, iCCP and their kin do not change colours as OpenCV and Pillow decode them (libpng weighs its own grey by
# them, which nothing here asks for); of an animation the picture that every reader shows stays.
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


@dataclass(frozen=True)
class PngHeader:
    """What stands before the pixels."""

    width: int  # in pixels, before any orientation; so is the height
    height: int
    orientation: int
    depth: int  # bits of a sample as stored
    bits: int | None  # of them in use, where the file says so (sBIT)


def read_png(data: bytes) -> PngHeader:
    """Header of a PNG whose chunks are all whole, with right crcs, up to IEND; what follows that is ignored.

    Raises:
        UnreadableError: the file is cut off or damaged.
    """
    head, orientation, bits = b"", UPRIGHT, None
    view = memoryview(data)
    kind = b""
    for kind, start, end in _chunks(data):
        if not head and kind != b"IHDR":
            raise UnreadableError("damaged PNG: it does not start with an IHDR chunk")
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise UnreadableError(f"damaged PNG: crc of chunk {kind!r} at byte {start} is wrong")
        if kind == b"IHDR":
            head = data[start + 8 : end - 4]
            if len(head) != 13:
                raise UnreadableError(f"damaged PNG: its IHDR chunk has {len(head)} bytes, not 13")
        elif kind == b"eXIf":
            orientation = read_orientation(data[start + 8 : end - 4])
        elif kind == b"sBIT":
            bits = max(data[start + 8 : end - 4], default=None)
    if kind != b"IEND":
        raise UnreadableError("cut-off PNG: no IEND chunk")
    return PngHeader(int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big"), orientation, head[8], bits)


def strip_png(data: bytes, orientation: int) -> bytes:
    """The same PNG with the chunks alone that its pixels need, their bytes unchanged.

    An orientation other than 1 comes back as an eXIf chunk with this tag alone.

    Args:
        data: a file that `read_png` accepts.
        orientation: 1 to 8.
    """
    parts = [PNG_START]
    for kind, start, end in _chunks(data):
        if kind in _PIXEL_CHUNKS:
            parts.append(data[start:end])
        if kind == b"IHDR" and orientation != UPRIGHT:
            parts.append(_chunk(b"eXIf", orientation_block(orientation)))
    return b"".join(parts)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + kind + payload + zlib.crc32(kind + payload).to_bytes(4, "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each whole chunk up to IEND; stops early where the file does."""
    at = len(PNG_START)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
