"""The manifest of an ingest, with its key, its tables and what people read of it."""

from __future__ import annotations

from infra.digest import unit_key
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from tasks.ingest.corpus_listing import ListedCorpus
from tasks.ingest.corpus_tables import store_table
from tasks.ingest.ingest_plan import IngestPlan
from tasks.ingest.leakage import mark_leaks
from tasks.ingest.left_out import leave_out
from tasks.ingest.near_duplicates import limit_facts
from tasks.ingest.near_groups import FACT as NEAR_FACT
from tasks.ingest.parent import Parent
from tasks.ingest.sample_bits import bits_note
from tasks.ingest.secret import FACT as SECRET_FACT
from tasks.ingest.shard import SEVERAL, STAGE, VERSION
from tasks.ingest.shard_results import NewShards
from tasks.ingest.splits import check_splits
from tasks.ingest.summary import facts_of, notes_of, quarantine_of, stored_notes
from tasks.preprocessing.stored_image import BITS_FACT

OF_USE = "of_use"
"""Fact: keys of `corpus` that leave images out."""


def ingest_key(listed: ListedCorpus, parent: Parent, limit: int | None) -> str:
    """Key of an ingest.

    Args:
        limit: of near duplicates that are kept together; where there are none, keys are those of earlier releases.
    """
    section = listed.scanned.section if limit is None else {**listed.scanned.section, NEAR_FACT: limit}
    return unit_key(STAGE, VERSION, inputs=[listed.digest, parent.digest], section=section)


def new_manifest(
    cache: StageCache,
    listed: ListedCorpus,
    parent: Parent,
    plan: IngestPlan,
    new: NewShards,
    *,
    key: str,
    alone: bool,
    bits: int | None,
    retried: bool,
    counted: int,
) -> tuple[Manifest, int]:
    """Store catalog and index of what was made; returns the manifest, not committed, and how many tables are new.

    Args:
        alone: as of `check_splits`.
        bits: in use of deep samples, where known.
        retried: files that could not be read before were tried again.
        counted: limit by which leaks by near duplicates are counted.

    Raises:
        CorpusError: a split is empty, or train lacks a class.
    """
    scanned, images, corpus = listed.scanned, plan.images, listed.scanned.corpus
    several = new.several + (parent.manifest.facts.get(SEVERAL, 0) if parent.manifest else 0)
    warnings = leave_out(images, corpus)
    warnings += check_splits(images, scanned.scan.classes, corpus.split, alone=alone)
    notes = notes_of(listed, warnings, plan.removed, plan.changed) + bits_note(bits)
    notes += stored_notes(images, scanned, several)
    near = {} if plan.near is None else {NEAR_FACT: plan.near.to_json()}
    notes += [] if plan.near is None else plan.near.notes
    leaks = mark_leaks(images, new.index, counted)
    index, new_index = store_table(cache, corpus.title, "index", new.index)
    catalog, new_catalog = store_table(cache, corpus.title, "catalog", images.catalog())
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=[listed.digest, parent.digest],
        section=scanned.section,
        outputs=[*parent.shards, *new.outputs, index, catalog],
        quarantine=quarantine_of(images),
        facts={
            **facts_of(scanned, images, leaks),
            "cropped": new.cropped + (parent.manifest.facts["cropped"] if parent.manifest else 0),
            "removed": plan.removed,
            "changed": plan.changed,
            **({SEVERAL: several} if several else {}),
            # Shards do not depend on it, so that the section does not tell; repair needs it.
            **({OF_USE: used} if (used := corpus.identity_of_use()) else {}),
            "notes": notes,
            **({BITS_FACT: bits} if bits else {}),
            **near,
            **limit_facts(scanned.scan.modality, counted),
            "parent": parent.manifest.key if parent.manifest else "",
            "retried": retried,
            **({SECRET_FACT: listed.secret} if corpus.private else {}),
        },
    )
    return manifest, new_index + new_catalog
