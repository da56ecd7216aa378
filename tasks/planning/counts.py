"""The counts that a plan rests on: from the corpus, or from the spec where phantoms are not drawn yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.compute as pc

from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.catalog import OK, SPLITS
from tasks.ingest.corpus_listing import scan_spec
from tasks.ingest.frame_mask import polygons_of
from tasks.ingest.image_table import as_text, place_in
from tasks.ingest.ingest_plan import recipe_of
from tasks.ingest.parent import read_head
from tasks.ingest.pixels import ImageRecipe
from tasks.ingest.private_words import PrivateWords
from tasks.ingest.summary import preview_of
from tasks.planning.measurements import ImageSample, sample_images, sample_sources
from tasks.spec import PhantomSection, Spec

DRAWN = 12  # phantoms drawn in memory to measure what an image costs
JPEG = ".jpg"


@dataclass(frozen=True)
class CorpusCounts:
    """What there is to ingest, and what reading some of it showed."""

    facts: dict[str, Any]  # as `tasks.ingest.summary.facts_of` names them
    patients: int  # 0 where none is known
    without_patient: dict[str, int]  # as `tasks.data.patients.images_without_patient` tells it
    empty: int  # files of zero bytes
    readable: int  # files that are not
    recipe: ImageRecipe
    sample: ImageSample
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


def count_corpus(spec: Spec, store: Store) -> CorpusCounts:
    """Scan the corpus, plan its shards and read some of its images.

    Raises:
        CorpusError, BudgetError: as an ingest would, before decoding.
    """
    if spec.corpus.adapter.startswith("phantom-") and not Path(spec.corpus.root, "phantom.json").exists():
        return _count_phantoms(spec)
    found = scan_spec(spec)
    preview = preview_of(spec, store, found)
    source, table = found.source, found.scan.rows.table
    files = source.files()
    named = table.filter(pc.and_(pc.is_valid(table["path"]), pc.equal(table["status"], OK)))
    below = f"{found.scan.below}/" if found.scan.below else ""
    at = place_in(as_text(pc.binary_join_element_wise(below, named["path"], "")), as_text(files["path"]))
    here = files.take(pa.array(at[at >= 0]))
    recipe = recipe_of(found.section)
    full = here.filter(pc.greater(here["size"], 0))
    return CorpusCounts(
        facts=preview.facts,
        patients=_patients(table),
        without_patient=_without_patient(named),
        empty=len(named) - len(full),
        readable=len(full),
        recipe=recipe,
        sample=_worded(sample_images(source, full, recipe), found.words),
        shards=preview.shards,
        images=preview.images,
        unhashed=preview.unknown,
        drawn=True,
        manifest=read_head(store, spec.corpus.title) if preview.cached else None,
    )


def _worded(sample: ImageSample, words: PrivateWords | None) -> ImageSample:
    """A sample whose reasons quote nothing of a private corpus."""
    return replace(sample, reasons=[words.of_file(reason) for reason in sample.reasons]) if words else sample


def _patients(rows: pa.Table) -> int:
    known = rows.filter(pc.and_(pc.is_valid(rows["path"]), pc.not_equal(rows["patient"], "")))
    return len(known["patient"].unique())


def _without_patient(named: pa.Table) -> dict[str, int]:
    unknown = pc.sum(pc.equal(pc.fill_null(named["patient"], ""), "")).as_py() or 0
    return {"images": len(named), "unknown": int(unknown)}


def _count_phantoms(spec: Spec) -> CorpusCounts:
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
            "corpus": spec.corpus.title,
            "task": spec.corpus.task or ("ordinal" if fundus else "single"),
            "classes": classes,
            "modality": "fundus" if fundus else "endoscopy",
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
