"""Rows of several catalogs as one table, and their images as one index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.storage.manifest import Output
from tasks.combine.members import Member
from tasks.data.catalog import INDEX, LEFT_OUT, SPLITS
from tasks.ingest.image_table import TEST, TRAIN, ImageTable, as_text, mask
from tasks.ingest.leakage import contradictions
from tasks.ingest.parent import Parent
from tasks.spec.corpora import ALL
from tasks.spec.corpora import TEST as TEST_ONLY

UNLABELLED_TEST = "it has no label, and its corpus is for testing alone"
CONTRADICTED = "another corpus labels the same bytes differently"


def combined_rows(members: Sequence[Member], parents: Sequence[Parent]) -> tuple[ImageTable, list[str]]:
    """All images with the split and label that they have in the training set; and notes on what is left out.

    Patients are named by who numbers them, so that equal numbers of two hospitals stay apart.
    """
    width = next(_width(parent) for member, parent in zip(members, parents, strict=True) if not member.pool)
    images: ImageTable | None = None
    notes = []
    for member, parent in zip(members, parents, strict=True):
        own = _rows(member, parent, width)
        waiting = int(own.where("reason", UNLABELLED_TEST).sum())
        if waiting:
            notes.append(f"{waiting} images of {member.title} have no label and are left out: it is for testing alone")
        if images is None:
            images = own
        else:
            images.append(own)
    assert images is not None
    twice = contradictions(images)
    images.leave_out(twice, CONTRADICTED)
    if twice.any():
        shown = ", ".join(name for (name,) in images.first_rows(rows=twice))
        notes.append(f"{int(twice.sum())} images are left out, because {CONTRADICTED}: {shown}")
    return images, notes


def combined_index(parents: Sequence[Parent]) -> pa.Table:
    """The images of all shards, schema INDEX, shards numbered through."""
    parts, before = [INDEX.empty_table()], 0
    at = INDEX.get_field_index("shard")
    for parent in parents:
        part = parent.index.select(INDEX.names).cast(INDEX)
        parts.append(part.set_column(at, "shard", pc.add(part["shard"], pa.scalar(before, pa.int32()))))
        before += len(parent.shards)
    return pa.concat_tables(parts)


def combined_shards(members: Sequence[Member], parents: Sequence[Parent]) -> list[Output]:
    """The shards of all, with the split that they have in the training set."""
    found = []
    for member, parent in zip(members, parents, strict=True):
        for shard in parent.shards:
            split = _split_of(member, str(shard.meta["split"]))
            found.append(shard.model_copy(update={"meta": {**shard.meta, "split": split}}))
    return found


def _split_of(member: Member, split: str) -> str:
    if member.entry.use == ALL:
        return split
    return SPLITS[TRAIN] if member.pool else SPLITS[TEST]


def _rows(member: Member, parent: Parent, width: int | None) -> ImageTable:
    """One corpus's rows as the training set has them.

    Args:
        width: classes of a multilabel training set, else None.
    """
    images = parent.rows(np.ones(len(parent.keys), bool))
    left_out = mask(pc.equal(parent.catalog["status"], LEFT_OUT))
    images.set_text("status", left_out, LEFT_OUT)
    images.set_text("reason", left_out, as_text(parent.catalog["reason"]).filter(pa.array(left_out)))
    patient = images.text("patient")
    known = mask(pc.not_equal(patient, ""))
    named = pc.binary_join_element_wise(member.entry.numbering, patient.filter(pa.array(known)), ":")
    images.set_text("patient", known, named)
    split = images.numbers("split")
    if member.pool:
        images.clear_labels(np.ones(len(images), bool))
        images.labels = None if width is None else np.full((len(images), width), -1, np.int8)
    if member.entry.use != ALL:
        split[split >= 0] = TRAIN if member.pool else TEST
    if member.entry.use == TEST_ONLY:
        images.leave_out(images.usable & ~images.labelled, UNLABELLED_TEST)
    return images


def _width(parent: Parent) -> int | None:
    facts: dict[str, Any] = parent.manifest.facts if parent.manifest is not None else {}
    return len(facts["classes"]) if facts.get("task") == "multilabel" else None
