"""The corpus as it lies there now: the adapter's rows with keys and digests of the files' bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import canonical_json
from infra.errors import CorpusError
from infra.storage.store import Store
from tasks.corpora import Scan, adapter_of
from tasks.corpora.attributes import youngest_told
from tasks.corpora.csv_table import translated
from tasks.corpora.scan import ATTRIBUTES, ROWS, RowTable
from tasks.data.catalog import OK, SPLITS
from tasks.data.tombstones import COLUMNS, Tombstones
from tasks.ingest.corrections import correct
from tasks.ingest.digest_cache import DigestCache
from tasks.ingest.image_table import NOT_READABLE, ImageTable, as_text, matrix, place_in
from tasks.ingest.keys import KeyedHasher, assign_keys
from tasks.ingest.parent import Parent
from tasks.ingest.private_classes import refuse_rare_classes
from tasks.ingest.private_words import PrivateWords, guarded, words_of
from tasks.ingest.secret import digest_of_secret, secret_of
from tasks.ingest.splits import hold_out
from tasks.preprocessing.frame_mask import polygons_of
from tasks.sources import open_source
from tasks.sources.base import Source
from tasks.sources.passed_over import passed_over
from tasks.sources.tree import Tree
from tasks.spec import CorpusSection, IngestSection, Spec

BATCH = 8192  # rows whose digest is taken at once
PRIVACY = 2  # what a store holds of a private corpus; raised when that changes, in private corpora alone


@dataclass(frozen=True)
class ScannedCorpus:
    """A corpus as its adapter reads it, before any image is."""

    corpus: CorpusSection
    source: Source
    scan: Scan
    section: dict[str, Any]  # what of the spec enters keys, with defaults filled in

    @property
    def words(self) -> PrivateWords | None:
        """Words about the corpus where it is private."""
        return words_of(self.corpus)


@dataclass(frozen=True)
class ListedCorpus:
    """A corpus as it lies there now."""

    scanned: ScannedCorpus
    images: ImageTable
    digest_cache: DigestCache
    hasher: KeyedHasher | None
    secret: str = ""  # digest of the secret of a private corpus
    tombstones: Tombstones = field(default_factory=lambda: Tombstones({}))
    erased: int = 0  # rows of the corpus that were erased from the store and are left out

    @property
    def unhashed(self) -> int:
        """How many files have no digest yet, because nothing was hashed or they could not be read."""
        return int((self.images.has_file & self.images.where("source_sha256", "")).sum())

    @cached_property
    def digest(self) -> str:
        """Digest of all that enters an ingest: bytes, labels, patients, official splits."""
        scan, images = self.scanned.scan, self.images
        about = [scan.task, list(scan.classes), scan.modality, sorted(scan.official)]
        taken = self.scanned.corpus.identity_of_use()
        hasher = hashlib.sha256(canonical_json([*about, taken] if taken else about))
        names = ["key", "source_sha256", "label", "labels", "patient", "exam", "eye", "official", "status", "reason"]
        # Others only where a corpus has them, so that a further attribute moves no digest of today.
        names += [n for n in ATTRIBUTES if n not in names and not images.where(n, "").all()]
        for batch in images.batches(images.by_key(), BATCH):
            hasher.update(canonical_json([batch[name].to_pylist() for name in names]))
        return hasher.hexdigest()


def open_corpus(corpus: CorpusSection) -> Source:
    """The corpus's files; phantoms are drawn first.

    Raises:
        CorpusError: there is no such place, or it cannot be listed.
    """
    with guarded(words_of(corpus), reading=True):
        try:
            adapter_of(corpus.adapter).prepare(corpus)
            return open_source(corpus.root)
        except OSError as error:
            raise CorpusError(f"{error.filename or corpus.root}: {error.strerror or error}") from None


def scan_corpus(corpus: CorpusSection, ingest: IngestSection, source: Source) -> ScannedCorpus:
    """The adapter's scan, and the section of the spec that enters keys.

    Raises:
        CorpusError: the place is not what the spec says.
    """
    words = words_of(corpus)
    with guarded(words, reading=True):
        try:
            scan = adapter_of(corpus.adapter).scan(corpus, Tree(source))
            scan = replace(scan, notes=[*scan.notes, *passed_over(source.files()["path"].combine_chunks())])
        except OSError as error:
            raise CorpusError(f"{error.filename or corpus.root}: {error.strerror or error}") from None
    if words:
        scan = _worded(scan, words)
        refuse_rare_classes(corpus, scan)
    how: dict[str, Any] = {
        "encode": ingest.encode,
        "shard_size": ingest.shard_size,
        "max_pixels": ingest.max_pixels,
    }
    if ingest.encode == "keep":
        how |= {"size": None, "crop": "none", "quality": 0}
    else:
        crop = "none" if ingest.mask else ingest.crop or scan.crop
        how |= {"size": ingest.size or scan.size, "crop": crop, "quality": ingest.quality}
    if ingest.bits is not None:
        how["bits"] = ingest.bits
    if ingest.mask is not None:
        how["mask"] = polygons_of(ingest.mask)
    section: dict[str, Any] = {"corpus": corpus.identity_of_shards(), "ingest": how}
    if corpus.private:
        section["privacy"] = PRIVACY
    return ScannedCorpus(corpus, source, scan, json.loads(canonical_json(section)))


def _worded(scan: Scan, words: PrivateWords) -> Scan:
    """A scan whose reasons and notes quote nothing of the corpus."""
    table = scan.rows.table
    names = pc.coalesce(table["path"], table["name"])
    reasons = words.of_rows(as_text(table["reason"]), as_text(names))
    at = table.schema.get_field_index("reason")
    return replace(scan, rows=RowTable(table.set_column(at, "reason", reasons)), notes=words.of_notes(scan.notes))


def scan_spec(spec: Spec, number: int = 0) -> ScannedCorpus:
    """`scan_corpus` of one corpus of a spec, by its place there."""
    corpus = spec.each_corpus[number]
    return scan_corpus(corpus, spec.ingest_of(number), open_corpus(corpus))


def list_corpus(scanned: ScannedCorpus, store: Store, parent: Parent, *, dry: bool = False) -> ListedCorpus:
    """Give rows their keys, files and digests; rows that were erased from the store are left out.

    Args:
        parent: an earlier ingest, whose keys stay.
        dry: write nothing and hash nothing; files that the digest cache does not know have no digest.
    """
    corpus, scan = scanned.corpus, scanned.scan
    secret = secret_of(store, corpus.title, create=not dry) if corpus.private else b""
    hasher = KeyedHasher(secret) if corpus.private else None
    images = _images_of(scan, hasher, parent, corpus.key_prefix or "")
    # The image table has all that the rows said.
    with guarded(scanned.words, reading=True):
        notes = correct(images, corpus, scan)
    if scanned.words:
        notes = scanned.words.of_notes(notes)
    official = hold_out(images, corpus.split, scan.official)
    rows = RowTable(ROWS.empty_table())
    slim = replace(scanned, scan=replace(scan, rows=rows, official=official, notes=[*scan.notes, *notes]))
    cache = DigestCache(store, corpus.title, hasher)
    digest = digest_of_secret(secret) if corpus.private else ""
    tombstones = Tombstones.read(store, corpus.title)
    # Before files are read, so that nothing of theirs is written down; by their bytes only afterwards.
    listed = _without_erased(ListedCorpus(slim, images, cache, hasher, digest, tombstones), dry)
    _join_files(listed, dry)
    return _without_erased(listed, dry)


def hash_files(listed: ListedCorpus) -> ListedCorpus:
    """A corpus that was listed with `dry`, now with the digest of every file; not for private ones."""
    _join_files(listed, dry=False)
    return _without_erased(listed, dry=False)


def _without_erased(listed: ListedCorpus, dry: bool) -> ListedCorpus:
    """Without rows of tombstones, and without what the digest cache took down of them; always a new object."""
    images = listed.images
    gone = listed.tombstones.matches({name: images.text(name) for name in COLUMNS})
    if not gone.any():
        return replace(listed)
    hashed = images.text("path").filter(pa.array(gone & ~images.where("source_sha256", ""))).to_pylist()
    if hashed and not dry:
        listed.digest_cache.forget([listed.digest_cache.listed_name(path) for path in hashed])
    return replace(listed, images=images.only(~gone), erased=listed.erased + int(gone.sum()))


def _images_of(scan: Scan, hasher: KeyedHasher | None, parent: Parent, prefix: str) -> ImageTable:
    rows = scan.rows.table
    path, name, patient = (as_text(rows[n]) for n in ("path", "name", "patient"))
    attributes = {n: as_text(rows[n]) for n in ATTRIBUTES}
    there = pc.not_equal(path, "")
    split_key = pc.if_else(
        pc.not_equal(patient, ""),
        pc.binary_join_element_wise("patient:", patient, ""),
        pc.binary_join_element_wise("image:", path, ""),
    )
    if hasher:
        what = zip(path.to_pylist(), name.to_pylist(), strict=True)
        key = as_text([hasher.hash("path", p) if p else hasher.hash("row", n) for p, n in what])
        patient = _hashed(hasher, "patient", patient)
        attributes = _private(hasher, attributes)
    else:
        # No path has two slashes in a row: a label row without an image never shares a file's place.
        place = pc.if_else(there, path, pc.binary_join_element_wise("//", name, ""))
        key = assign_keys(place, pc.binary_join_element_wise(prefix, name, ""), *parent.keys_by_source)
    below = f"{scan.below}/" if scan.below else ""
    return ImageTable.of(
        len(rows),
        matrix(rows["labels"]),
        key=key,
        source=path if hasher is None else pa.repeat("", len(rows)),
        patient=patient,
        **attributes,
        status=rows["status"],
        reason=rows["reason"],
        path=pc.if_else(there, pc.binary_join_element_wise(below, path, ""), ""),
        split_key=split_key,
        label=rows["label"].to_numpy(),
        official=place_in(as_text(rows["split"]), pa.array(SPLITS)),
    )


def _hashed(hasher: KeyedHasher, kind: str, texts: pa.Array) -> pa.Array:
    """Keyed hashes of texts, "" of ""."""
    return as_text(translated(texts, lambda text: hasher.hash(kind, text)))


def _private(hasher: KeyedHasher, attributes: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Attributes as a store may have them of a private corpus: nothing that a cell or a name says, no day, no high age
    (`tasks.corpora.attributes.less_known` says why)."""
    return attributes | {
        **{kind: _hashed(hasher, kind, attributes[kind]) for kind in ("exam", "site", "camera")},
        "date": pc.utf8_slice_codeunits(attributes["date"], 0, 4),
        "age": as_text(translated(attributes["age"], youngest_told)),
    }


def _join_files(listed: ListedCorpus, dry: bool) -> None:
    """Sizes, stamps and digests of the rows' files."""
    images, source, words = listed.images, listed.scanned.source, listed.scanned.words
    with guarded(words, reading=True):
        files = source.files()
    at = np.flatnonzero(images.has_file)
    place = place_in(images.text("path").take(pa.array(at)), as_text(files["path"]))
    # A row whose path is not among the listed files has no file that can be read.
    at, place = at[place >= 0], place[place >= 0]
    files = files.take(pa.array(place))
    rows = np.zeros(len(images), bool)
    rows[at] = True
    images.numbers("bytes")[at] = files["size"].to_numpy()
    images.set_text("stamp", rows, as_text(files["stamp"]))
    with guarded(words, reading=True):
        digests, faults = listed.digest_cache.digests(source, files, hash_new=not dry)
    images.set_text("source_sha256", rows, digests)
    usable = images.where("status", OK)
    for row, error in faults.items():
        key = images.text("key")[int(at[row])].as_py()
        reason = words.of_os_error(error, key) if words else error.strerror or str(error)
        bad = np.zeros(len(images), bool)
        bad[at[row]] = usable[at[row]]
        images.quarantine(bad, f"{NOT_READABLE}{reason}")
