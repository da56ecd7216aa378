"""The card of a label run: one page about its predictions, its speed, and how good the predictions are.

The page and its pictures lie in the store under `reports/<corpus>/label-<16 digits>/`, named by a manifest of their
own. What leaves the store, such as an artifact of Prefect, is `LabelCard.markdown`: figures and names of stored
objects, because what other services keep cannot be erased with the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache, read_output
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.drawing.contact_sheet import CAPTION, GAP, TILE, Picture, tile_of, write_line
from tasks.drawing.plots import BLUE, GREY, ORANGE, figure_of, png_of, short_name, wrapped
from tasks.label.card_text import LabelRunFigures, body, captions, pictures, places
from tasks.label.label_statistics import (
    BINS,
    LABELLED,
    POOL,
    RIGHT,
    WRONG,
    LabelStatistics,
    UncertainImage,
    label_statistics,
)

__all__ = ["STAGE", "VERSION", "LabelCard", "LabelRunFigures", "label_card"]


STAGE = "label-card"


VERSION = 1


PICTURES = "\n## Pictures\n"
"""Heading of the last section of a page; what stands before it names no image and no patient."""


COLUMNS = 6


LINES = 3  # of a caption: key and the two likeliest classes


@dataclass(frozen=True)
class LabelCard:
    """A card as stored."""

    markdown: str  # for Prefect: figures and names of stored objects; no picture, no key, no patient
    objects: tuple[str, ...]  # names of all that is stored, the page first
    page: str  # name of the page with everything
    manifest: Manifest  # names the objects, so that gc and verify know them


def label_card(corpus: Corpus, manifests: Sequence[Manifest], figures: LabelRunFigures, store: Store) -> LabelCard:
    """Count once over the stored labels and store the card; no teacher is run.

    The card of a run that made nothing is the one stored before, speeds included, as long as labels, catalog and
    pictures are the same.

    Args:
        manifests: one label manifest a teacher, of this corpus.
        figures: of the run.

    Raises:
        UsageError: no manifest, or one without the plain view of some shard.
        CorruptError: a stored soft-label file is not what its manifest promises.
    """
    if not manifests:
        raise UsageError("a label card needs the label manifest of at least one teacher")
    # The labels of images are the catalog's, so a corrected one makes another card of the same predictions.
    inputs = [corpus.manifest.output(kind="catalog").id, *(manifest.digest for manifest in manifests)]
    key = unit_key(STAGE, VERSION, inputs=inputs, section={})
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key)
    if hit is not None and hit.whole and not figures.made:
        page = read_output(store, hit.manifest.output(kind="page")).decode()
        return _card(hit.manifest, page)
    counts = label_statistics(corpus, manifests)
    folder = f"reports/{corpus.title}/label-{key[:16]}"

    def put(kind: str, ending: str, data: bytes) -> Output:
        name = f"{folder}/{kind}-{{sha8}}.{ending}"
        return cache.put_object(name, data, id=f"{key}-{kind}", unit=key, meta={"kind": kind})

    shown = [put(kind, "png", data) for kind, data in _drawn(corpus, counts, store).items()]
    text = body(corpus, manifests, figures, counts)
    last = pictures(corpus, manifests, counts, {o.meta["kind"]: o.name.rpartition("/")[2] for o in shown})
    page = f"{text}{PICTURES}\n{last}"
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=inputs,
        section={},
        outputs=[put("page", "md", page.encode()), *shown],
        facts={"corpus": corpus.title, "teachers": [str(m.section["teacher"]) for m in manifests]},
    )
    return _card(cache.commit(manifest), page)


def _drawn(corpus: Corpus, counts: LabelStatistics, store: Store) -> dict[str, bytes]:
    """Kind to PNG."""
    bars = [("labelled", counts.prior / np.maximum(counts.known, 1))]
    if counts.pool_valid:
        bars.append(("unlabelled, mean probability", counts.mass / counts.pool_valid))
        bars.append(
            ("unlabelled, top class" if not counts.many else "unlabelled, named", counts.top / counts.pool_valid)
        )
    drawn = {
        "classes": classes_png(corpus.classes, bars, f"Classes of the training images of {corpus.title}"),
        "confidence": confidence_png(
            counts.confidence,
            "decisions" if counts.many else "images",
            f"Confidence of the teachers on plain views of {corpus.title}",
        ),
    }
    if counts.uncertain:
        drawn["uncertain"] = sheet_png(store, counts.uncertain, captions(corpus, counts))
    return drawn


def _card(manifest: Manifest, page: str) -> LabelCard:
    names = tuple(output.name for output in manifest.outputs)
    kinds = {str(output.meta["kind"]): output.name for output in manifest.outputs}
    text = page.partition(PICTURES)[0] + "\n" + places(kinds)
    return LabelCard(text, names, kinds["page"], manifest)


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
        counts: [4, BINS], see `tasks.label.label_statistics.LabelStatistics`.
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


def sheet_png(store: Store, images: Sequence[UncertainImage], captions: Sequence[Sequence[str]]) -> bytes:
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
