"""A contact sheet: a row of small pictures for each class, chosen by the hash of their keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from infra.digest import sha256_bytes
from infra.errors import StillroomError, UsageError
from infra.storage.store import Store
from models.augmentation.rendering import decode
from tasks.data.corpus import Corpus, Shard, read_image

TILE, CAPTION, GAP = 160, 16, 4  # pixels
EACH = 6  # pictures a class
UNLABELLED = "unlabelled"
_INK, _PAPER = (20, 20, 20), 255
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.36


@dataclass(frozen=True)
class Picture:
    shard: Shard
    row: int
    key: str


def contact_sheet(corpus: Corpus, shard: str | None = None, *, each: int = EACH) -> bytes:
    """PNG of a corpus or of one shard: rows by class, captions with key and label.

    Args:
        shard: name of the only shard to show; None: all of them.
        each: pictures a class.

    Raises:
        UsageError: there is no image to show.
    """
    wanted = [one for one in corpus.shards if shard is None or one.output.name == shard]
    rows = [(name, _first(pictures, each)) for name, pictures in _by_class(corpus, wanted).items() if pictures]
    if not rows:
        raise UsageError(f"{shard or corpus.title} holds no image to show")
    strips = [_strip(corpus.store, name, pictures, each) for name, pictures in rows]
    done, data = cv2.imencode(".png", np.concatenate(strips))
    assert done
    return bytes(data)


def _by_class(corpus: Corpus, shards: Iterable[Shard]) -> dict[str, list[Picture]]:
    """An image of several classes stands in each of their rows."""
    found: dict[str, list[Picture]] = {name: [] for name in (*corpus.classes, UNLABELLED)}
    for shard in shards:
        for row, key in enumerate(shard.keys):
            if shard.labels is not None:
                names = [corpus.classes[n] for n in np.flatnonzero(shard.labels[row] == 1)]
            else:
                names = [corpus.classes[shard.label[row]]] if shard.label[row] >= 0 else []
            if not names and not shard.labelled[row]:
                names = [UNLABELLED]
            for name in names:
                found[name].append(Picture(shard, row, str(key)))
    return found


def _first(pictures: Sequence[Picture], each: int) -> list[Picture]:
    return sorted(pictures, key=lambda picture: sha256_bytes(picture.key.encode()))[:each]


def _strip(store: Store, name: str, pictures: Sequence[Picture], each: int) -> np.ndarray:
    height, width = TILE + 2 * CAPTION + GAP, each * (TILE + GAP) + GAP
    strip = np.full((height, width, 3), _PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        left = GAP + number * (TILE + GAP)
        strip[GAP : GAP + TILE, left : left + TILE] = tile_of(store, picture)
        for line, text in enumerate((picture.key, name)):
            write_line(strip, text, left, GAP + TILE + (line + 1) * CAPTION - 4)
    return strip


def tile_of(store: Store, picture: Picture) -> np.ndarray:
    """BGR uint8 [TILE, TILE, 3]: the whole image, padded; or the word damaged."""
    tile = np.full((TILE, TILE, 3), 230, np.uint8)
    try:
        image = decode(read_image(store, picture.shard, picture.row))
    except (StillroomError, OSError, ValueError):
        write_line(tile, "damaged", GAP, TILE // 2)
        return tile
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)[..., ::-1]
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def write_line(canvas: np.ndarray, text: str, left: int, base: int) -> None:
    # The built-in font knows ASCII only.
    plain = text.encode("ascii", "replace").decode()
    while len(plain) > 1 and cv2.getTextSize(plain, _FONT, _SCALE, 1)[0][0] > TILE:
        plain = plain[:-1]
    cv2.putText(canvas, plain, (left, base), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
