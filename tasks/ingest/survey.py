"""What there is: the adapter's rows with keys, digests of the source bytes and, where private, a veil."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import canonical_json
from infra.errors import CorpusError
from infra.storage.store import Store
from tasks.corpora import Scan, adapter_of
from tasks.corpora.rowtable import ROWS, RowTable
from tasks.data.catalog import OK, SPLITS
from tasks.ingest.keys import Veil, assign_keys, secret_of
from tasks.ingest.listing import Listing
from tasks.ingest.parent import Parent
from tasks.ingest.roll import NOT_READABLE, Roll, as_text, matrix, place_in
from tasks.sources import open_source
from tasks.sources.base import Source
from tasks.sources.tree import Tree
from tasks.spec import CorpusSection, IngestSection, Spec

TOLD = 8192  # rows whose digest is taken at once


@dataclass(frozen=True)
class Found:
    """A corpus as its adapter reads it, before any image is."""

    corpus: CorpusSection
    source: Source
    scan: Scan
    section: dict[str, Any]  # what of the spec enters keys, with defaults filled in


@dataclass(frozen=True)
class Survey:
    """A corpus as it lies there now."""

    found: Found
    roll: Roll
    listing: Listing
    veil: Veil | None

    @cached_property
    def digest(self) -> str:
        """Digest of everything that the corpus says: bytes, labels, patients, official splits."""
        scan, roll = self.found.scan, self.roll
        hasher = hashlib.sha256(canonical_json([scan.task, list(scan.classes), scan.modality, sorted(scan.official)]))
        names = ("key", "source_sha256", "label", "labels", "patient", "exam", "eye", "official", "status", "reason")
        for batch in roll.batches(roll.by_key(), TOLD):
            hasher.update(canonical_json([batch[name].to_pylist() for name in names]))
        return hasher.hexdigest()

    def listed_as(self, path: str) -> str:
        """What the listing calls a path or a stamp."""
        return self.veil.hide("path", path) if self.veil else path


def source_of(corpus: CorpusSection) -> Source:
    """The corpus's files; phantoms are drawn first.

    Raises:
        CorpusError: there is no such place, or it cannot be listed.
    """
    try:
        adapter_of(corpus.adapter).prepare(corpus)
        return open_source(corpus.root)
    except OSError as error:
        raise CorpusError(f"{error.filename or corpus.root}: {error.strerror or error}") from None


def scan_corpus(corpus: CorpusSection, ingest: IngestSection, source: Source) -> Found:
    """The adapter's scan, and the section of the spec that enters keys.

    Raises:
        CorpusError: the place is not what the spec says.
    """
    try:
        scan = adapter_of(corpus.adapter).scan(corpus, Tree(source))
    except OSError as error:
        raise CorpusError(f"{error.filename or corpus.root}: {error.strerror or error}") from None
    kept: dict[str, Any] = {
        "encode": ingest.encode,
        "shard_size": ingest.shard_size,
        "max_pixels": ingest.max_pixels,
    }
    if ingest.encode == "keep":
        kept |= {"size": None, "crop": "none", "quality": 0}
    else:
        kept |= {"size": ingest.size or scan.size, "crop": ingest.crop or scan.crop, "quality": ingest.quality}
    section = {"corpus": corpus.identity(), "ingest": kept}
    return Found(corpus, source, scan, json.loads(canonical_json(section)))


def survey_of(spec: Spec) -> Found:
    """`scan_corpus` of a whole spec."""
    return scan_corpus(spec.corpus, spec.ingest, source_of(spec.corpus))


def survey(found: Found, store: Store, parent: Parent, *, dry: bool = False) -> Survey:
    """Give rows their keys, files and digests.

    Args:
        parent: an earlier ingest, whose keys stay.
        dry: write nothing and hash nothing; files that the listing does not know have no digest.
    """
    corpus, scan = found.corpus, found.scan
    veil = Veil(secret_of(store, corpus.title, create=not dry)) if corpus.private else None
    roll = _roll(scan, veil, parent)
    listing = Listing(store, corpus.title)
    # The roll has all that the rows said.
    slim = replace(found, scan=replace(scan, rows=RowTable(ROWS.empty_table())))
    survey = Survey(slim, roll, listing, veil)
    _join_files(survey, dry)
    return survey


def _roll(scan: Scan, veil: Veil | None, parent: Parent) -> Roll:
    rows = scan.rows.table
    path, name, patient, exam = (as_text(rows[n]) for n in ("path", "name", "patient", "exam"))
    there = pc.not_equal(path, "")
    lot = pc.if_else(
        pc.not_equal(patient, ""),
        pc.binary_join_element_wise("patient:", patient, ""),
        pc.binary_join_element_wise("image:", path, ""),
    )
    if veil:
        what = zip(path.to_pylist(), name.to_pylist(), strict=True)
        key = as_text([veil.hide("path", p) if p else veil.hide("row", n) for p, n in what])
        patient, exam = (
            as_text([veil.hide(kind, t) for t in column.to_pylist()])
            for kind, column in (("patient", patient), ("exam", exam))
        )
    else:
        # No path has two slashes in a row: a label row without an image never shares a file's place.
        place = pc.if_else(there, path, pc.binary_join_element_wise("//", name, ""))
        key = assign_keys(place, name, *parent.keys_by_source)
    below = f"{scan.below}/" if scan.below else ""
    return Roll.of(
        len(rows),
        matrix(rows["labels"]),
        key=key,
        source=path if veil is None else pa.repeat("", len(rows)),
        patient=patient,
        exam=exam,
        eye=rows["eye"],
        status=rows["status"],
        reason=rows["reason"],
        path=pc.if_else(there, pc.binary_join_element_wise(below, path, ""), ""),
        lot=lot,
        label=rows["label"].to_numpy(),
        official=place_in(as_text(rows["split"]), pa.array(SPLITS)),
    )


def _join_files(survey: Survey, dry: bool) -> None:
    """Sizes, stamps and digests of the rows' files."""
    roll, source = survey.roll, survey.found.source
    listed = source.files()
    at = np.flatnonzero(roll.has_file)
    place = place_in(roll.text("path").take(pa.array(at)), as_text(listed["path"]))
    # A row whose file name could not be told stands for no file that can be read.
    at, place = at[place >= 0], place[place >= 0]
    files = listed.take(pa.array(place))
    rows = np.zeros(len(roll), bool)
    rows[at] = True
    roll.numbers("bytes")[at] = files["size"].to_numpy()
    roll.put("stamp", rows, as_text(files["stamp"]))
    hide = survey.listed_as if survey.veil else None
    digests, faults = survey.listing.digests(source, files, hide=hide, hash_new=not dry)
    roll.put("source_sha256", rows, digests)
    usable = roll.where("status", OK)
    for row, reason in faults.items():
        bad = np.zeros(len(roll), bool)
        bad[at[row]] = usable[at[row]]
        roll.refuse(bad, f"{NOT_READABLE}{reason}")
