"""The counts that a plan rests on, of one corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.storage.store import Store
from tasks.data.catalog import OK
from tasks.ingest.corpus_listing import scan_spec
from tasks.ingest.image_table import as_text, place_in
from tasks.ingest.parent import read_head
from tasks.ingest.private_words import PrivateWords
from tasks.ingest.summary import preview_of
from tasks.planning.corpus_counts import CorpusCounts
from tasks.planning.measurements import ImageSample, sample_images
from tasks.planning.phantom_counts import count_phantoms
from tasks.preprocessing.stored_image import recipe_of
from tasks.spec import Spec


def count_corpus(spec: Spec, store: Store, number: int = 0) -> CorpusCounts:
    """Scan a corpus of the spec, by its place there, plan its shards and read some of its images.

    Raises:
        CorpusError, BudgetError: as an ingest would, before decoding.
    """
    corpus = spec.each_corpus[number]
    if corpus.adapter.startswith("phantom-") and not Path(corpus.root, "phantom.json").exists():
        return count_phantoms(corpus, spec.ingest_of(number))
    found = scan_spec(spec, number)
    preview = preview_of(found, spec.ingest_of(number), store, alone=not spec.entries)
    source, table = found.source, found.scan.rows.table
    files = source.files()
    named = table.filter(pc.and_(pc.is_valid(table["path"]), pc.equal(table["status"], OK)))
    below = f"{found.scan.below}/" if found.scan.below else ""
    at = place_in(as_text(pc.binary_join_element_wise(below, named["path"], "")), as_text(files["path"]))
    here = files.take(pa.array(at[at >= 0])).append_column("label", named["label"].filter(pa.array(at >= 0)))
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
        manifest=read_head(store, corpus.title) if preview.cached else None,
        to_hash=preview.to_hash,
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
