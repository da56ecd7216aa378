"""Pictures of a label card: bars of classes and of confidence, and the most uncertain images as a contact sheet.

The bars show no patient; the contact sheet does, so it never leaves the store.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from infra.storage.store import Store
from tasks.drawing.contact_sheet import CAPTION, GAP, TILE, Picture, tile_of, write_line
from tasks.drawing.plots import BLUE, GREY, ORANGE, figure_of, png_of, short_name, wrapped
from tasks.label.tally import BINS, LABELLED, POOL, RIGHT, WRONG, Uncertain

COLUMNS = 6
LINES = 3  # of a caption: key and the two likeliest classes


def classes_png(classes: Sequence[str], bars: Sequence[tuple[str, np.ndarray]], title: str) -> bytes:
    """Share of images by class, a group of bars a class.

    Args:
        bars: up to three names, each with shares [C].
    """
    figure, axes = figure_of(max(5.5, 0.45 * len(classes) + 2.5), 4.5)
    width, at = 0.8 / len(bars), np.arange(len(classes))
    for number, ((name, share), colour) in enumerate(zip(bars, (GREY, BLUE, ORANGE), strict=False)):
        axes.bar(at + (number - (len(bars) - 1) / 2) * width, share, width=width, color=colour, label=name)
    axes.set_xticks(at, [short_name(name) for name in classes], rotation=35, ha="right", fontsize=9)
    axes.set_ylabel("share of the images")
    axes.legend(fontsize=8)
    axes.set_title(wrapped(title), fontsize=10)
    return png_of(figure)


def confidence_png(counts: np.ndarray, unit: str, title: str) -> bytes:
    """Confidence of the ensemble: labelled training images against the pool, right against wrong on validation.

    Args:
        counts: [4, BINS], see `tasks.label.tally.Tally`.
        unit: what is counted: images or decisions.
    """
    figure, panels = figure_of(5.5, 6.0, rows=2, heights=[1, 1])
    middle, width = (np.arange(BINS) + 0.5) / BINS, 0.4 / BINS
    pairs = (
        ("training", ((LABELLED, "labelled", GREY), (POOL, "unlabelled", BLUE))),
        ("validation", ((RIGHT, "right", BLUE), (WRONG, "wrong", ORANGE))),
    )
    for axes, (split, rows) in zip(panels, pairs, strict=True):
        for side, (row, name, colour) in zip((-0.5, 0.5), rows, strict=True):
            total = int(counts[row].sum())
            # Shares, because a pool of a hundred times the labelled images would hide them.
            share = counts[row] / max(1, total)
            axes.bar(middle + side * width, share, width=width, color=colour, label=f"{name} ({total:,})")
        axes.set_xlim(0, 1)
        axes.set_ylabel(f"share of the {unit}")
        axes.legend(fontsize=8, loc="upper left", title=split, title_fontsize=8)
    panels[1].set_xlabel("confidence")
    panels[0].set_title(wrapped(title), fontsize=10)
    return png_of(figure)


def sheet_png(store: Store, images: Sequence[Uncertain], captions: Sequence[Sequence[str]]) -> bytes:
    """Contact sheet of images in rows of six, each with up to three lines below it."""
    down, across = TILE + LINES * CAPTION + GAP, TILE + GAP
    canvas = np.full((-(-len(images) // COLUMNS) * down, COLUMNS * across + GAP, 3), 255, np.uint8)
    for number, (image, lines) in enumerate(zip(images, captions, strict=True)):
        top, left = number // COLUMNS * down + GAP, number % COLUMNS * across + GAP
        canvas[top : top + TILE, left : left + TILE] = tile_of(store, Picture(image.shard, image.row, image.key))
        for line, text in enumerate(lines[:LINES]):
            write_line(canvas, text, left, top + TILE + (line + 1) * CAPTION - 4)
    done, data = cv2.imencode(".png", canvas)
    assert done
    return bytes(data)
