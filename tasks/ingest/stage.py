"""The ingest stage: corpus files to shards, catalog and quarantine (DESIGN: The line).

Three things set it apart from other stages: its input lies outside of the store and is compared by a fingerprint first
and by a listing then; its manifest goes on from a parent, whose shards stay; a mutable head names the newest manifest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa

from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output, manifest_name
from infra.storage.stage_cache import read_output
from infra.storage.store import MissingObjectError
from tasks.corpora import adapter_of
from tasks.data.catalog import from_parquet
from tasks.ingest.corpus_listing import ListedCorpus, ScannedCorpus, hash_files, list_corpus, open_corpus, scan_corpus
from tasks.ingest.group_near import group_near, limit_for
from tasks.ingest.ingest_manifest import ingest_key, new_manifest
from tasks.ingest.ingest_plan import (
    FaultBudget,
    ShardPlan,
    ShardSettings,
    plan_ingest,
    repair_jobs,
    shard_folder,
)
from tasks.ingest.keys import KeyedHasher
from tasks.ingest.make_shards import make_shards
from tasks.ingest.near_duplicates import limit_of, limit_of_facts
from tasks.ingest.near_groups import FACT as NEAR_FACT
from tasks.ingest.parent import Parent, read_head, write_head, write_info
from tasks.ingest.private_words import guarded, guarded_method, words_of
from tasks.ingest.sample_bits import known_bits, settled_bits
from tasks.ingest.secret import secret_of
from tasks.ingest.shard import STAGE, VERSION, ShardJob
from tasks.ingest.shard_results import ShardResults, collect_new_shards
from tasks.ingest.source_fingerprint import SourceFingerprint, digest_of_files, digest_of_request
from tasks.ingest.summary import QUALITY, tables_of
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, UnitCount, run_stage
from tasks.sources.base import Source
from tasks.spec import CorpusSection, IngestSection, Spec

__all__ = ["INGEST", "STAGE", "VERSION", "IngestWork", "ingest"]


class IngestWork(StageWork):
    """Bring a corpus into the store; what is there already is found, what is lost is made again, alone.

    Raises:
        CorpusError: the folder is not what the spec says, a split is empty, train lacks a class.
        BudgetError: more images are at fault than the spec allows.
        SourceChangedError: something writes to the corpus while it is read; transient.
        CorruptError: a lost output cannot be made again as it was.
    """

    stage, version = STAGE, VERSION

    def __init__(self, context: Context, corpus: CorpusSection, section: IngestSection, *, alone: bool = True) -> None:
        super().__init__(context)
        self._alone = alone  # as of `check_splits`
        self.corpus, self.section, self.title = corpus, section, corpus.title
        self.words = words_of(corpus)
        self._as_fingerprinted = False  # the head was found by its fingerprint; nothing was scanned or listed

    @cached_property
    def source(self) -> Source:
        """The corpus's files; phantoms are drawn when it is first used."""
        return open_corpus(self.corpus)

    @cached_property
    def scanned(self) -> ScannedCorpus:
        """The corpus as its adapter reads it now."""
        return scan_corpus(self.corpus, self.section, self.source)

    @cached_property
    def _head(self) -> Manifest | None:
        return read_head(self.store, self.title)

    @cached_property
    def _parent_manifest(self) -> Manifest | None:
        """The head, where it was made as the spec asks now."""
        return self._head if self._head is not None and self._head.section == self.scanned.section else None

    @cached_property
    def _parent(self) -> Parent | None:
        """What the head stored; None where its catalog or index is lost."""
        try:
            return Parent.load(self.store, self._parent_manifest)
        except MissingObjectError:
            return None

    @cached_property
    def _listed(self) -> ListedCorpus:
        """The corpus with the digests that are known already."""
        assert self._parent is not None
        return list_corpus(self.scanned, self.store, self._parent, dry=True)

    @cached_property
    def _files(self) -> str:
        with guarded(self.words, reading=True):
            return digest_of_files(self.source.files())

    @cached_property
    def _fingerprint(self) -> str:
        """Digest of the source's listing as the store has it: keyed where the corpus is private."""
        if not self.corpus.private:
            return self._files
        return KeyedHasher(secret_of(self.store, self.title)).digest(self._files)

    @cached_property
    def key(self) -> str:
        if self._parent is None:
            assert self._head is not None
            return self._head.key
        return self._key_of(self._listed, self._parent)

    def _key_of(self, listed: ListedCorpus, parent: Parent) -> str:
        return ingest_key(listed, parent, limit_for(listed, parent))

    @guarded_method
    def lookup(self) -> Manifest | None:
        manifest = self._candidate
        return manifest if manifest is not None and not self._lost(manifest) else None

    @guarded_method
    def missing(self) -> UnitCount:
        manifest = self._candidate
        if manifest is None:
            return UnitCount(0, 0)
        total = len(manifest.outputs)
        return UnitCount(total - len(self._lost(manifest)), total)

    @cached_property
    def _candidate(self) -> Manifest | None:
        """The manifest of the corpus as it is now, whole or not, as far as it is known without hashing a file."""
        if self.context.run.retry_quarantined or not adapter_of(self.corpus.adapter).prepared(self.corpus):
            return None
        if self._head is not None and self.corpus.private:
            # What the fingerprint finds needs no secret, and would hide that it is lost.
            secret_of(self.store, self.title, create=False)
        if self._head is not None and self._is_unchanged(self._head):
            self._as_fingerprinted = True
            return self._head
        if self._parent is None:
            return self._head
        return self._manifest_of(self._listed, self._parent) if not self._listed.unhashed else None

    def _is_unchanged(self, head: Manifest) -> bool:
        """Whether the last ingest asked for the same, found the same files and made the head."""
        seen = SourceFingerprint.load(self.store, self.title)
        return (
            seen is not None
            and seen.digest == head.digest
            and seen.request == digest_of_request(self.corpus, self.section)
            and seen.files == self._fingerprint
        )

    def _manifest_of(self, listed: ListedCorpus, parent: Parent) -> Manifest | None:
        head = parent.manifest
        if head is not None and head.inputs[0] == listed.digest:
            return head
        # Committed by a run that was killed before it moved the head, under an older head, or by an earlier release.
        hits = (
            self.cache.lookup(STAGE, key) for key in (self._key_of(listed, parent), ingest_key(listed, parent, None))
        )
        return next((hit.manifest for hit in hits if hit is not None), None)

    def _lost(self, manifest: Manifest) -> list[Output]:
        return self.cache.missing(manifest.outputs, verify=self.context.run.verify)

    @guarded_method
    def make(self) -> Made:
        self._as_fingerprinted = False
        parent, retry = self._parent, self.context.run.retry_quarantined
        if parent is None:
            assert self._parent_manifest is not None
            return self.make_whole(self._parent_manifest, self.scanned)
        listed = self._listed
        if listed.unhashed:
            # A private corpus's keys may follow from a secret that is stored only now.
            listed = list_corpus(self.scanned, self.store, parent) if self.corpus.private else hash_files(listed)
        manifest = self._manifest_of(listed, parent) if not retry else None
        if manifest is not None:
            lost = self._lost(manifest)
            if any(output.meta["kind"] != "shard" for output in lost):
                return self.make_whole(manifest, self.scanned)
            return _made(manifest, self.remake_shards(manifest, listed, lost))
        remade = self.remake_shards(parent.manifest, listed) if parent.manifest is not None else 0
        limit = limit_for(listed, parent)
        made = self._make(listed, parent, self._key_of(listed, parent), retry=retry, limit=limit)
        return _made(made.manifest, made.made + remade)

    @guarded_method
    def finish(self, manifest: Manifest) -> None:
        """Write `_info.json`, head and fingerprint where they differ."""
        write_info(self.store, manifest, shard_folder(self.title, manifest.section))
        if self._as_fingerprinted:
            return
        head = read_head(self.store, self.title)
        if head is None or head.digest != manifest.digest:
            write_head(self.store, self.title, manifest)
        request = digest_of_request(self.corpus, self.section)
        root = "" if self.corpus.private else self.source.url
        SourceFingerprint(root, request, self._fingerprint, manifest.digest).save(self.store, self.title)

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        return tables_of(self.title, result.manifest)

    @guarded_method
    def remake_shards(self, manifest: Manifest, listed: ListedCorpus, lost: Sequence[Output] | None = None) -> int:
        """Make lost shards again, the same bytes; returns how many.

        Args:
            lost: shards of the manifest; default those that the store does not have.
        """
        shards = manifest.outputs_where(kind="shard")
        if lost is None:
            lost = self.cache.missing(shards, verify=self.context.run.verify)
        if lost:
            index = from_parquet(read_output(self.store, manifest.output(kind="index")))
            settings = ShardSettings.of(listed, self.store.url, known_bits(self.section, manifest))
            jobs = repair_jobs(lost, shards, index, listed, settings)
            self._make_shards(listed, jobs, len(lost), reuse=False)
        return len(lost)

    @guarded_method
    def make_whole(self, manifest: Manifest, scanned: ScannedCorpus) -> Made:
        """A manifest whose catalog or index is lost: make the whole of it again from its own parent.

        Raises:
            CorruptError: it does not come out as it was.
        """
        try:
            key = manifest.facts["parent"]
            name = manifest_name(STAGE, key)
            before = Manifest.from_bytes(self.store.get(name), name) if key else None
            parent = Parent.load(self.store, before)
        except MissingObjectError as error:
            raise CorruptError(f"{self.title}: catalog or index is lost, and its parent's too: {error}") from None
        listed = list_corpus(scanned, self.store, parent)
        if manifest.inputs == [listed.digest, parent.digest]:
            remade = self.remake_shards(before, listed) if before is not None else 0
            limit = manifest.facts.get(NEAR_FACT, {}).get("limit")
            counted = limit_of_facts(manifest.facts)
            retry, measured = manifest.facts["retried"], QUALITY in manifest.facts
            again = self._make(
                listed, parent, manifest.key, retry=retry, limit=limit, counted=counted, measured=measured
            )
            if again.manifest.digest == manifest.digest:
                return _made(again.manifest, again.made + remade)
        raise CorruptError(
            f"{self.title}: catalog or index is lost and cannot be made again as it was, because the corpus or "
            "a library changed since; restore it from a backup, or ingest under another corpus.name"
        )

    def _make(
        self,
        listed: ListedCorpus,
        parent: Parent,
        key: str,
        *,
        retry: bool,
        limit: int | None,
        counted: int | None = None,
        measured: bool = True,
    ) -> Made:
        """Plan and carry out; a retry that changes nothing gives back the parent's manifest.

        Args:
            limit: of near duplicates that are kept together; None for none.
            counted: limit by which leaks are counted; default this release's.
            measured: False: as by a release that measured no picture.
        """
        scanned = listed.scanned
        modality = scanned.scan.modality if measured else None
        find = None if limit is None else partial(group_near, self.context, listed, parent, self.section, limit)
        plan = plan_ingest(listed, parent, self.section, retry=retry, alone=self._alone, group_near=find)
        images = plan.images
        retried = retry and plan.retries(parent)
        with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
            known = known_bits(self.section, parent.manifest)
            settings = ShardSettings.of(listed, self.store.url, known)
            shards = ShardPlan(plan, parent, settings, self.section.shard_size, Path(scratch))
            # Joining left memory that the hours of decoding ahead do not need.
            pa.default_memory_pool().release_unused()
            check = FaultBudget(images, self.section).check
            results = self._make_shards(listed, shards, len(shards), check=check, reuse=not retried)
            make = partial(self._make_again, listed)
            bits = settled_bits(shards, results, known, make)
            new = collect_new_shards(shards, [job.key for job in shards], results, images, parent, modality)
        if parent.manifest and not new.stored and listed.digest == parent.manifest.inputs[0]:
            return _made(parent.manifest, 0)
        counted = limit_of(scanned.scan.modality) if counted is None else counted
        manifest, tables = new_manifest(
            self.cache,
            listed,
            parent,
            plan,
            new,
            key=key,
            alone=self._alone,
            bits=bits,
            retried=retried,
            counted=counted,
        )
        return _made(manifest, new.made + tables)

    def _make_shards(
        self,
        listed: ListedCorpus,
        jobs: Iterable[ShardJob],
        total: int,
        *,
        check: Callable[[Sequence[str]], None] = lambda faults: None,
        reuse: bool,
    ) -> ShardResults:
        return make_shards(self.context, listed, jobs, total, check=check, reuse=reuse)

    def _make_again(self, listed: ListedCorpus, jobs: list[ShardJob]) -> ShardResults:
        return self._make_shards(listed, jobs, len(jobs), reuse=True)


def ingest(context: Context, spec: Spec, number: int = 0) -> StageResult:
    """Run the stage for one corpus of a spec, by its place there; see `IngestWork`."""
    return run_stage(_bind(context, spec, number))


def _bind(context: Context, spec: Spec, number: int = 0) -> IngestWork:
    return IngestWork(context, spec.each_corpus[number], spec.ingest_of(number), alone=not spec.entries)


INGEST = Stage("ingest", _bind, folders=("shards/", "catalogs/"))


def _made(manifest: Manifest, made: int) -> Made:
    return Made(manifest, made, len(manifest.outputs))
