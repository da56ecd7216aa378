"""A JPEG file as a row of segments (ITU-T T.81, annex B): its header, whether it is whole, what is metadata.

Decoders fill what a cut file lacks with grey and report nothing, so that files are checked here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.preprocessing.exif import UPRIGHT, orientation_block, read_orientation
from tasks.preprocessing.unreadable import UnreadableError

JPEG_START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_EOI, _SOS, _DQT, _DRI, _DNL = 0xD9, 0xDA, 0xDB, 0xDD, 0xDC
_DHT, _DAC, _APP0, _APP1, _APP14 = 0xC4, 0xCC, 0xE0, 0xE1, 0xEE
_SCAN_DATA = 0  # no marker has this code
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC}
_PIXEL_MARKERS = _FRAMES | {_SCAN_DATA, _EOI, _SOS, _DQT, _DRI, _DNL, _DHT, _DAC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_EXIF = b"Exif\0\0"
# In entropy-coded data 0xFF is followed by 00 or a restart marker; any other byte begins a real marker.
_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class JpegHeader:
    """What stands before the first scan."""

    width: int  # in pixels, before any orientation; so is the height
    height: int
    orientation: int


def read_jpeg(data: bytes) -> JpegHeader:
    """Header of a JPEG that has a first scan and an end-of-image marker; what follows that is ignored.

    A file that ends with the marker is accepted without a walk through its scans, which would cost a
    tenth of the decoding. What it cannot notice are changed bytes inside a scan: JPEG has no checksums.

    Raises:
        UnreadableError: the file is cut off, or its segments make no sense.
    """
    frame: bytes | None = None
    orientation: int | None = None
    segments = _segments(data)
    for code, start, end in segments:
        if code in _FRAMES:
            frame = data[start + 4 : end]
        elif code == _APP1 and orientation is None and data[start + 4 : start + 10] == _EXIF:
            orientation = read_orientation(data[start + 10 : end])
        elif code == _SOS:
            if frame is None or len(frame) < 6:
                raise UnreadableError("damaged JPEG: no frame header before the first scan")
            if not _ends(data, end) and not any(later == _EOI for later, _, _ in segments):
                break
            height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
            return JpegHeader(width, height, orientation or UPRIGHT)
        elif code == _EOI:
            raise UnreadableError("damaged JPEG: it ends before its first scan")
    raise UnreadableError("cut-off JPEG: no end-of-image marker")


def strip_jpeg(data: bytes, orientation: int) -> bytes:
    """The same JPEG with nothing but what its pixels need; every scan keeps its bytes.

    JFIF and Adobe segments stay (decoders choose the colour transform by them), without JFIF's thumbnail.
    Comments, all other application segments with their colour profiles, stray bytes and whatever follows
    the end go. An orientation other than 1 comes back as an Exif segment with this tag alone.

    Args:
        data: a file that `read_jpeg` accepts.
        orientation: 1 to 8.
    """
    head: list[bytes] = []
    body: list[bytes] = []
    for code, start, end in _segments(data):
        payload = data[start + 4 : end]
        if code == _APP0 and payload[:5] == b"JFIF\0" and len(payload) >= 12 and not head:
            head.append(_segment(_APP0, payload[:12] + b"\0\0"))
        elif (code == _APP14 and payload[:5] == b"Adobe") and len(payload) >= 12:
            body.append(_segment(_APP14, payload[:12]))
        elif code in _PIXEL_MARKERS:
            body.append(data[start:end])
    if orientation != UPRIGHT:
        head.append(_segment(_APP1, _EXIF + orientation_block(orientation)))
    return b"".join([JPEG_START[:2], *head, *body])


def starved(data: bytes) -> list[bytes]:
    """The same JPEG with bytes of two kinds put before its end.

    A decoder that had all data for its last block passes over them; one that ran out of data draws them,
    so that the decoded pictures differ.
    """
    end = data.rindex(_END)
    return [data[:end] + filler * 4096 + _END for filler in (b"\0", b"\x55")]


def _segment(code: int, payload: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(payload) + 2).to_bytes(2, "big") + payload


def _ends(data: bytes, first: int) -> bool:
    """Whether the data, perhaps padded with zeros, end with an end-of-image marker not before `first`."""
    if data.endswith(_END):
        return len(data) - 2 >= first
    whole = data.rstrip(b"\0")
    return whole.endswith(_END) and len(whole) - 2 >= first


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(code, start, end) of each segment up to the end-of-image marker, and of the data of each scan.

    Lazy: the data of a scan are searched for their end only when the next item is asked for. Stops early,
    without an end-of-image marker, where the file does.
    """
    at = 2
    while at >= 0 and at + 2 <= len(data):
        code = data[at + 1]
        if data[at] != 0xFF or code in (0x00, 0xFF):
            # Fill bytes, and the stray bytes between segments that every decoder steps over.
            at = data.find(b"\xff", at + 1)
            continue
        if code == _EOI:
            yield code, at, at + 2
            return
        if code in _ALONE:
            at += 2
            continue
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        if end > len(data):
            return
        yield code, at, end
        at = end
        if code == _SOS:
            found = _MARKER.search(data, at)
            end = found.end() - 2 if found else len(data)
            yield _SCAN_DATA, at, end
            at = end
