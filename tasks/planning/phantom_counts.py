"""The counts that a plan rests on where phantoms are not drawn yet: from the spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2

from tasks.corpora.label_maps import MAPS
from tasks.data.catalog import SPLITS
from tasks.ingest.pixels import ImageRecipe
from tasks.planning.corpus_counts import CorpusCounts
from tasks.planning.measurements import sample_sources
from tasks.preprocessing.frame_mask import polygons_of
from tasks.spec import CorpusSection, IngestSection, PhantomSection

DRAWN = 12
"""Phantoms that are drawn."""
JPEG = ".jpg"


def count_phantoms(corpus: CorpusSection, how: IngestSection) -> CorpusCounts:
    """What would be drawn and ingested; some phantoms are drawn in memory to measure what an image costs."""
    phantom = corpus.phantom or PhantomSection()
    fundus = corpus.adapter == "phantom-fundus"
    drawn, one = _fundus(phantom) if fundus else _endoscopy(phantom)
    task, shares = _classes(corpus, drawn) if fundus else (corpus.task or "single", dict.fromkeys(drawn, 1))
    labelled = phantom.labelled
    val, test = phantom.val, phantom.test
    if not fundus:
        val, test = (round(labelled * share) for share in (corpus.split.val, corpus.split.test))
        labelled -= val + test
    images = {"train": labelled + phantom.unlabelled, "val": val, "test": test}
    own = {"train": labelled, "val": val, "test": test}
    recipe = ImageRecipe(
        size=None if how.encode == "keep" else how.size or phantom.size,
        encode=how.encode,
        quality=how.quality,
        crop=how.crop or "none",
        max_pixels=how.max_pixels,
        mask=polygons_of(how.mask or []),
    )
    total = sum(images.values())
    return CorpusCounts(
        facts={
            "corpus": corpus.title,
            "task": task,
            "classes": list(shares),
            "modality": "fundus" if fundus else "endoscopy",
            "official": sorted(SPLITS) if fundus else [],
            "counts": {s: {c: own[s] // len(drawn) * n for c, n in shares.items()} for s in SPLITS},
            "images": images,
            "unlabelled": phantom.unlabelled,
            "leaks": 0,
            "missing": 0,
            "quarantined": 0,
            "notes": ["the phantoms are not drawn yet: counts are the spec's, the classes about equal"],
        },
        patients=total // 2 if fundus else 0,
        without_patient={"images": total, "unknown": 0 if fundus else total},
        empty=0,
        readable=total,
        recipe=recipe,
        sample=sample_sources([partial(one, number) for number in range(DRAWN)], recipe),
        shards=sum(-(-n // how.shard_size) for n in images.values()),
        images=total,
        unhashed=total,
        drawn=False,
        manifest=None,
    )


def _classes(corpus: CorpusSection, grades: Sequence[str]) -> tuple[str, dict[str, int]]:
    """Task, and how many of the grades, of which as many are drawn, fall into each class."""
    if corpus.label_map is None:
        return corpus.task or "ordinal", dict.fromkeys(grades, 1)
    found = MAPS[corpus.adapter][corpus.label_map]
    return found.task, {name: sum(own == name for own in found.labels.values()) for name in found.classes}


def _fundus(phantom: PhantomSection) -> tuple[list[str], Callable[[int], bytes]]:
    from tasks.corpora.eyepacs import GRADES
    from tasks.corpora.phantom.fundus import draw_fundus

    def one(number: int) -> bytes:
        grade = number % len(GRADES)
        return _jpeg(draw_fundus(phantom.seed, number + 1, "left", grade, phantom.size))

    return list(GRADES), one


def _endoscopy(phantom: PhantomSection) -> tuple[list[str], Callable[[int], bytes]]:
    from tasks.corpora.phantom.endoscopy import FINDINGS, draw_endoscopy

    names = sorted(FINDINGS)

    def one(number: int) -> bytes:
        return _jpeg(draw_endoscopy(phantom.seed, number, names[number % len(names)], phantom.size))

    return names, one


def _jpeg(image: Any) -> bytes:
    return bytes(cv2.imencode(JPEG, image[..., ::-1])[1])
