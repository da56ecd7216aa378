"""The card of a label run: one page that says what the teachers said, how fast, and how far to trust it.

The page and its pictures lie in the store under `reports/<corpus>/label-<16 digits>/`, named by a manifest of their
own. What leaves the store, such as an artifact of Prefect, is `Card.markdown`: figures and names of stored objects,
because `forget` cannot reach what other services keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache, read_output
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.label.card_plots import classes_png, confidence_png, sheet_png
from tasks.label.card_text import Measured, body, captions, pictures, whereabouts
from tasks.label.tally import Tally, tally

__all__ = ["STAGE", "VERSION", "Card", "Measured", "label_card"]

STAGE = "label-card"
VERSION = 1
PICTURES = "\n## Pictures\n"
"""Heading of the last section of a page; what stands before it names no image and no patient."""


@dataclass(frozen=True)
class Card:
    """A card as stored."""

    markdown: str  # for Prefect: figures and names of stored objects; no picture, no key, no patient
    objects: tuple[str, ...]  # names of all that is stored, the page first
    page: str  # name of the page with everything
    manifest: Manifest  # names the objects, so that gc and verify know them


def label_card(corpus: Corpus, manifests: Sequence[Manifest], measured: Measured, store: Store) -> Card:
    """Count once over the stored labels and store the card; no teacher is asked.

    The card of a run that made nothing is the one stored before, speeds included, as long as labels, catalog and
    pictures are the same.

    Args:
        manifests: one label manifest a teacher, of this corpus.
        measured: what the run did.

    Raises:
        UsageError: no manifest, or one without the plain view of some shard.
        CorruptError: a stored soft-label file is not what its manifest promises.
    """
    if not manifests:
        raise UsageError("a label card needs the label manifest of at least one teacher")
    # The labels of images are the catalog's, so a corrected one makes another card of the same teaching.
    inputs = [corpus.manifest.output(kind="catalog").id, *(manifest.digest for manifest in manifests)]
    key = unit_key(STAGE, VERSION, inputs=inputs, section={})
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key)
    if hit is not None and hit.whole and not measured.made:
        page = read_output(store, hit.manifest.output(kind="page")).decode()
        return _card(hit.manifest, page)
    counts = tally(corpus, manifests)
    folder = f"reports/{corpus.title}/label-{key[:16]}"

    def put(kind: str, ending: str, data: bytes) -> Output:
        name = f"{folder}/{kind}-{{sha8}}.{ending}"
        return cache.put_object(name, data, id=f"{key}-{kind}", unit=key, meta={"kind": kind})

    shown = [put(kind, "png", data) for kind, data in _drawn(corpus, counts, store).items()]
    text = body(corpus, manifests, measured, counts)
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


def _drawn(corpus: Corpus, counts: Tally, store: Store) -> dict[str, bytes]:
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
            f"Confidence of the teaching on plain views of {corpus.title}",
        ),
    }
    if counts.uncertain:
        drawn["uncertain"] = sheet_png(store, counts.uncertain, captions(corpus, counts))
    return drawn


def _card(manifest: Manifest, page: str) -> Card:
    names = tuple(output.name for output in manifest.outputs)
    kinds = {str(output.meta["kind"]): output.name for output in manifest.outputs}
    text = page.partition(PICTURES)[0] + "\n" + whereabouts(kinds)
    return Card(text, names, kinds["page"], manifest)
