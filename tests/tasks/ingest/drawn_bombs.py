"""Files that no camera wrote, drawn at random: announced sizes, thousands of scans, cuts, flipped bytes, noise."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.tasks.ingest.pictures import noisy, png, saved

PICTURE = Image.fromarray(noisy(24, 32))
WHOLE = {
    kind: saved(PICTURE, kind, **options)
    for kind, options in {"JPEG": {}, "PNG": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "WEBP": {}}.items()
}
PROGRESSIVE = saved(PICTURE, "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xda")
MAGIC = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"RIFF\0\0\0\0WEBP",
    b"GIF89a",
    b"PK\3\4",
    b"",
]
# Beyond these a picture of a few kilobytes is refused by what it announces.
SIDES = 3_500, 65_535
TOGETHER = 50


@dataclass(frozen=True)
class Drawn:
    """A file, and whether it must be refused."""

    kind: str
    data: bytes
    bad: bool


def _scans(count: int, noise: bytes) -> Drawn:
    data = PROGRESSIVE[:LAST_SCAN] + PROGRESSIVE[LAST_SCAN:-2] * count + PROGRESSIVE[-2:] + noise
    return Drawn("scans", data, True)


def _png_bomb(width: int, height: int, noise: bytes) -> Drawn:
    return Drawn("png bomb", png(width, height, zlib.compress(bytes(20_000) + noise)), True)


def _jpeg_bomb(width: int, height: int, noise: bytes) -> Drawn:
    at = WHOLE["JPEG"].index(b"\xff\xc0") + 5
    return Drawn(
        "jpeg bomb", WHOLE["JPEG"][:at] + struct.pack(">HH", height, width) + WHOLE["JPEG"][at + 4 :] + noise, True
    )


def _tiff_bomb(width: int, height: int, noise: bytes) -> Drawn:
    data = bytearray(WHOLE["TIFF"])
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if tag in (256, 257):
            struct.pack_into("<HHII", data, entry, tag, 4, 1, width if tag == 256 else height)
    return Drawn("tiff bomb", bytes(data) + noise, True)


def _cut(kind: str, share: float, noise: bytes) -> Drawn:
    data = WHOLE[kind]
    return Drawn("cut", data[: int(len(data) * share)] + noise, False)


def _flipped(kind: str, places: list[tuple[float, int]]) -> Drawn:
    data = bytearray(WHOLE[kind])
    for share, value in places:
        data[int(share * (len(data) - 1))] ^= value
    return Drawn("flipped", bytes(data), False)


def _draw(rng: Random) -> Drawn:
    kind, noise = rng.choice(sorted(WHOLE)), rng.randbytes(12)
    width, height = rng.randint(*SIDES), rng.randint(*SIDES)
    places = [(rng.random(), rng.randint(1, 255)) for _ in range(rng.randint(1, 8))]
    return rng.choice(
        [
            lambda: _scans(rng.randint(101, 2_000), noise),
            lambda: _png_bomb(width, height, noise),
            lambda: _jpeg_bomb(width, height, noise),
            lambda: _tiff_bomb(width, height, noise),
            lambda: _cut(kind, rng.random(), noise),
            lambda: _flipped(kind, places),
            lambda: Drawn("noise", rng.choice(MAGIC) + rng.randbytes(rng.randint(0, 200)), False),
        ]
    )()


def drawn(count: int) -> list[Drawn]:
    """So many different files, the same at each call.

    Hypothesis draws generators, of which each draws some files: to draw every byte by itself would take a minute.
    """
    found: dict[bytes, Drawn] = {}

    @settings(
        max_examples=-(-2 * count // TOGETHER),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=True))
    def collect(rng: Random) -> None:
        for _ in range(TOGETHER if len(found) < count else 0):
            one = _draw(rng)
            found.setdefault(one.data, one)

    collect()
    return list(found.values())[:count]
