"""The counts that a plan rests on: from the corpus as it lies there, or from the spec where it is not drawn yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2

from infra.manifest import Manifest
from infra.store import Store
from tasks.catalog import OK, SPLITS
from tasks.first_hour.measure import Sample, sample_images, sample_sources
from tasks.ingest.parent import read_head
from tasks.ingest.preview import preview
from tasks.ingest.survey import scan_corpus
from tasks.spec import PhantomSection, Spec

DRAWN = 12  # phantoms drawn in memory to see what they cost
JPEG = ".jpg"


@dataclass(frozen=True)
class Numbers:
    """What there is to ingest, and how it reads."""

    facts: dict[str, Any]  # as `tasks.ingest.facts.facts_of` names them
    patients: int  # 0 where none is known
    empty: int  # files of zero bytes
    readable: int  # files that are not
    sample: Sample
    shards: int  # to make
    images: int  # in those shards
    unhashed: int
    drawn: bool  # False: phantoms, planned from the spec
    manifest: Manifest | None  # of the ingest, where that is cached

    @property
    def in_split(self) -> dict[str, int]:
        """Images by split."""
        return {split: int(self.facts["images"].get(split, 0)) for split in SPLITS}

    @property
    def labelled_train(self) -> int:
        """Labelled training images; exact unless an image has several labels."""
        if self.facts["task"] == "multilabel":
            return max(0, self.in_split["train"] - int(self.facts["unlabelled"]))
        return sum(self.facts["counts"]["train"].values())


def numbers_of(spec: Spec, store: Store) -> Numbers:
    """Scan, draft and sample.

    Raises:
        CorpusError, BudgetError: as an ingest would, before decoding.
    """
    if spec.corpus.adapter.startswith("phantom-") and not (spec.corpus.root / "phantom.json").exists():
        return _undrawn(spec)
    scan, section = scan_corpus(spec)
    found = preview(spec, store)
    recipe = {name: section["ingest"][name] for name in ("size", "encode", "quality")}
    empty: list[str] = []
    full: list[str] = []
    for row in scan.rows:
        if row.path and row.status == OK:
            try:
                (full if (spec.corpus.root / row.path).stat().st_size else empty).append(row.path)
            except OSError:
                empty.append(row.path)
    return Numbers(
        facts=found.facts,
        patients=len({row.patient for row in scan.rows if row.patient and row.path}),
        empty=len(empty),
        readable=len(full),
        sample=sample_images(spec.corpus.root, full, recipe),
        shards=found.shards,
        images=found.images,
        unhashed=found.unknown,
        drawn=True,
        manifest=read_head(store, spec.corpus.title) if found.cached else None,
    )


def _undrawn(spec: Spec) -> Numbers:
    phantom = spec.corpus.phantom or PhantomSection()
    fundus = spec.corpus.adapter == "phantom-fundus"
    classes, one = _fundus(phantom) if fundus else _endoscopy(phantom)
    labelled = phantom.labelled
    val, test = phantom.val, phantom.test
    if not fundus:
        val, test = (round(labelled * share) for share in (spec.corpus.split.val, spec.corpus.split.test))
        labelled -= val + test
    images = {"train": labelled + phantom.unlabelled, "val": val, "test": test}
    own = {"train": labelled, "val": val, "test": test}
    how = spec.ingest
    recipe = {"size": how.size or phantom.size, "encode": how.encode, "quality": how.quality}
    total = sum(images.values())
    return Numbers(
        facts={
            "corpus": spec.corpus.title,
            "task": spec.corpus.task or ("ordinal" if fundus else "single"),
            "classes": classes,
            "official": sorted(SPLITS) if fundus else [],
            "counts": {s: {c: own[s] // len(classes) for c in classes} for s in SPLITS},
            "images": images,
            "unlabelled": phantom.unlabelled,
            "leaks": 0,
            "missing": 0,
            "quarantined": 0,
            "notes": ["the phantoms are not drawn yet: counts are the spec's, the classes about equal"],
        },
        patients=total // 2 if fundus else 0,
        empty=0,
        readable=total,
        sample=sample_sources([partial(one, number) for number in range(DRAWN)], recipe),
        shards=sum(-(-n // how.shard_size) for n in images.values()),
        images=total,
        unhashed=total,
        drawn=False,
        manifest=None,
    )


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
