"""Images that the spec leaves out without storing anything anew: `corpus.where`, and those that cannot be graded.

Gradability is what the corpus says of an image, else what its quality score says where the spec sets a limit.

They lie in shards like all others and have their split, so that another `where` changes the catalog alone.
"""

from __future__ import annotations

import numpy as np

from tasks.corpora.attributes import NO
from tasks.data.catalog import UNGRADABLE
from tasks.ingest.attribute_filter import having
from tasks.ingest.image_table import ImageTable
from tasks.spec import CorpusSection


def leave_out(images: ImageTable, corpus: CorpusSection) -> list[str]:
    """Mark usable rows that cannot be graded by their quality, and those that take no part; returns notes.

    Raises:
        CorpusError: a value that no image has, or nothing is left.
    """
    notes = _grade_by_quality(images, corpus.min_quality)
    if corpus.ungradable == "leave_out":
        rows = images.usable & images.where("gradable", NO) & ~images.labelled
        images.leave_out(rows, UNGRADABLE)
        if rows.any():
            notes.append(f"{int(rows.sum())} unlabelled images cannot be graded and teach nobody (corpus.ungradable)")
    for attribute, wanted in (corpus.where or {}).items():
        rows = images.usable & ~having(images, attribute, wanted, "corpus.where")
        unknown = int((rows & images.where(attribute, "")).sum())
        images.leave_out(rows, f"left out by corpus.where: {attribute}")
        more = f", of them {unknown} whose {attribute} is not known" if unknown else ""
        notes.append(f"{int(rows.sum())} images are left out by corpus.where: {attribute}{more}")
    return notes


def _grade_by_quality(images: ImageTable, limit: float | None) -> list[str]:
    if limit is None:
        return []
    quality = images.numbers("quality")
    unsaid = images.usable & images.where("gradable", "")
    low = unsaid & (quality < limit)
    images.set_text("gradable", low, NO)
    notes = []
    if low.any():
        notes.append(f"{int(low.sum())} images are below corpus.min_quality {limit:g} and count as ungradable")
    # What was read has a width; what is still to be read has no score yet.
    unknown = int((unsaid & np.isnan(quality) & (images.numbers("width") > 0)).sum())
    if unknown:
        notes.append(f"{unknown} images have no quality score, so that corpus.min_quality says nothing of them")
    return notes


def forget_grades_by_quality(images: ImageTable, limit: float | None) -> None:
    """Take back what an earlier ingest concluded from quality, on rows that a catalog alone tells of.

    A catalog does not tell who said no: of an image below the limit of that ingest, quality counts as having said it.

    Args:
        limit: `corpus.min_quality` of that ingest.
    """
    if limit is not None:
        images.set_text("gradable", images.where("gradable", NO) & (images.numbers("quality") < limit), "")


def not_known_yet(images: ImageTable, corpus: CorpusSection, waiting: np.ndarray) -> bool:
    """Whether what is left out follows from images that are still to be read: from DICOM headers, or from quality.

    Args:
        waiting: [N] bool, images still to be read.
    """
    by_quality = corpus.min_quality is not None and "gradable" in (corpus.where or {})
    return bool(waiting.any() if by_quality else (waiting & images.is_dicom).any())
