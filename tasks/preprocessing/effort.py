"""What an image may cost by what it announces: scans, and pixels for its bytes (the most pixels are `max_pixels`).

Small files that take minutes or gigabytes to decode are refused before anything is decoded.
"""

from __future__ import annotations

from tasks.preprocessing.jpegfile import JPEG_START
from tasks.preprocessing.unreadable import UnreadableError

MOST_SCANS = 100
"""Of a JPEG. Encoders write 1 to 11, optimizers of scans up to some dozens, attackers thousands."""

SMALL_PIXELS = 4_000_000
"""Pictures up to that size decode in a moment, however few bytes they have: blank ones are no attack."""

PIXELS_A_BYTE = 2_000
"""Of larger pictures. A blank JPEG has 340, a blank grey PNG 1,030 (RFC 1951); a photograph less than 100."""

_SCAN = b"\xff\xda"  # within the data of a scan 0xFF is followed by 0 or a restart marker


def check_effort(data: bytes, kind: str, width: int, height: int) -> None:
    """Refuse what costs more than any photograph would, by its header.

    Args:
        data: the whole file.
        kind: its format, for the message.
        width: in pixels, as the header says; so is the height.

    Raises:
        UnreadableError: a decompression bomb.
    """
    if data.startswith(JPEG_START) and (scans := data.count(_SCAN)) > MOST_SCANS:
        raise UnreadableError(f"the JPEG has {scans} scans, and no more than {MOST_SCANS} are decoded")
    pixels = width * height
    if pixels > SMALL_PIXELS and pixels > PIXELS_A_BYTE * len(data):
        raise UnreadableError(
            f"the {kind} announces {width} x {height} pixels in {len(data)} bytes, as a decompression bomb does"
        )
