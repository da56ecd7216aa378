"""Ingest: corpus files -> shards + catalog + quarantine (DESIGN: The line)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from infra.compute.cluster import Cluster
from infra.digest import sha256_bytes, unit_key
from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output, manifest_name
from infra.storage.stage_cache import StageCache, read_output
from infra.storage.store import MissingObjectError, Store
from tasks.data.catalog import CATALOG, INDEX, QUARANTINED, from_parquet, to_parquet
from tasks.ingest.draft import Budget, Draft, draft
from tasks.ingest.facts import facts_of, notes_of, quarantine_of
from tasks.ingest.glance import Glance, files_of, request_of
from tasks.ingest.harvest import Harvest, results_of
from tasks.ingest.parent import Parent, read_head, write_head, write_info
from tasks.ingest.phash import LIMITS, OTHER_LIMIT
from tasks.ingest.plan import Place, ShardPlan, repair_jobs, shard_folder
from tasks.ingest.roll import place_in
from tasks.ingest.shard import STAGE, VERSION, ShardJob
from tasks.ingest.splits import check_splits
from tasks.ingest.survey import Found, Survey, scan_corpus, source_of, survey
from tasks.ingest.trust import mark_leaks
from tasks.ingest.work import Work, carry_out
from tasks.pipeline.result import StageResult
from tasks.spec import CorpusSection, IngestSection, RunSection, Spec

Progress = Callable[[int, int], None]
Stop = Callable[[], bool]

__all__ = ["STAGE", "VERSION", "Ingest", "ingest"]


def ingest(
    spec: Spec, store: Store, cluster: Cluster, *, progress: Progress | None = None, stop: Stop | None = None
) -> StageResult:
    """Bring a corpus into the store; what is there already is found, what is lost is made again, alone.

    Args:
        progress: called with (shards done, shards to do).
        stop: asked now and then; CancelledError when it says yes.

    Raises:
        CorpusError: the folder is not what the spec says, a split is empty, train lacks a class.
        BudgetError: more images are at fault than the spec allows.
        SourceChangedError: somebody writes to the corpus while it is read; transient.
        CorruptError: a lost output cannot be made again as it was.
    """
    return Ingest(spec.corpus, spec.ingest, spec.run, store, cluster, progress, stop).run()


class Ingest:
    """One ingest of one corpus; arguments as `ingest`."""

    def __init__(
        self,
        corpus: CorpusSection,
        how: IngestSection,
        run: RunSection,
        store: Store,
        cluster: Cluster,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.corpus, self.how, self.run_section = corpus, how, run
        self.store, self.cluster = store, cluster
        self.progress, self.stop = progress or (lambda done, total: None), stop
        self.cache, self.title = StageCache(store), corpus.title
        self.source = source_of(corpus)

    def run(self) -> StageResult:
        """The whole of it."""
        head = read_head(self.store, self.title)
        if head is not None and self._unchanged(head):
            lost = self.cache.missing(head.outputs, verify=self.run_section.verify)
            if not lost:
                write_info(self.store, head, shard_folder(self.title, head.section))
                return StageResult(head, 0, len(head.outputs))
        found = scan_corpus(self.corpus, self.how, self.source)
        if head is not None and head.section != found.section:
            head = None
        try:
            parent = Parent.load(self.store, head)
        except MissingObjectError:
            assert head is not None
            return self.make_whole(head, found)
        surveyed = survey(found, self.store, parent)
        inputs = [surveyed.digest, parent.digest]
        key = unit_key(STAGE, VERSION, inputs=inputs, section=found.section)
        if not self.run_section.retry_quarantined:
            if head is not None and head.inputs[0] == surveyed.digest:
                return self._found(head, surveyed)
            # Committed by a run that was killed before it moved the head, or under an older head.
            hit = self.cache.lookup(STAGE, key)
            if hit is not None:
                return self._found(hit.manifest, surveyed)
        mended = self.mend(head, surveyed) if head is not None else 0
        manifest, made = self._make(surveyed, parent, key, retry=self.run_section.retry_quarantined)
        return self._commit(manifest, made + mended)

    @cached_property
    def _files(self) -> str:
        return files_of(self.source.files())

    def _unchanged(self, head: Manifest) -> bool:
        """Whether the last ingest asked for the same, saw the same files and made the head."""
        seen = Glance.load(self.store, self.title)
        return (
            not self.run_section.retry_quarantined
            and seen is not None
            and seen.digest == head.digest
            and seen.request == request_of(self.corpus, self.how)
            and seen.files == self._files
        )

    def _found(self, manifest: Manifest, surveyed: Survey) -> StageResult:
        lost = self.cache.missing(manifest.outputs, verify=self.run_section.verify)
        if any(output.meta["kind"] != "shard" for output in lost):
            return self.make_whole(manifest, surveyed.found)
        return self._close(manifest, self.mend(manifest, surveyed, lost))

    def _commit(self, manifest: Manifest, made: int) -> StageResult:
        return self._close(self.cache.commit(manifest), made)

    def _close(self, manifest: Manifest, made: int) -> StageResult:
        write_info(self.store, manifest, shard_folder(self.title, manifest.section))
        head = read_head(self.store, self.title)
        if head is None or head.digest != manifest.digest:
            write_head(self.store, self.title, manifest)
        seen = Glance(self.source.url, request_of(self.corpus, self.how), self._files, manifest.digest)
        seen.save(self.store, self.title)
        return StageResult(manifest, made, len(manifest.outputs))

    def mend(self, manifest: Manifest, surveyed: Survey, lost: Sequence[Output] | None = None) -> int:
        """Make lost shards again, the same bytes; returns how many.

        Args:
            lost: shards of the manifest; default those that the store does not have.
        """
        shards = manifest.outputs_where(kind="shard")
        if lost is None:
            lost = self.cache.missing(shards, verify=self.run_section.verify)
        if lost:
            index = from_parquet(read_output(self.store, manifest.output(kind="index")))
            jobs = repair_jobs(lost, shards, index, surveyed, Place.of(surveyed, self.store.url))
            self._carry_out(jobs, len(lost), surveyed, reuse=False)
        return len(lost)

    def make_whole(self, manifest: Manifest, found: Found) -> StageResult:
        """Its catalog or index is lost: make the whole of it again from its own parent."""
        try:
            key = manifest.facts["parent"]
            name = manifest_name(STAGE, key)
            before = Manifest.from_bytes(self.store.get(name), name) if key else None
            parent = Parent.load(self.store, before)
        except MissingObjectError as error:
            raise CorruptError(f"{self.title}: catalog or index is lost, and its parent's too: {error}") from None
        surveyed = survey(found, self.store, parent)
        if manifest.inputs == [surveyed.digest, parent.digest]:
            mended = self.mend(before, surveyed) if before is not None else 0
            again, made = self._make(surveyed, parent, manifest.key, retry=manifest.facts["retried"])
            if again.digest == manifest.digest:
                return self._commit(again, made + mended)
        raise CorruptError(
            f"{self.title}: catalog or index is lost and cannot be made again as it was, because the corpus or "
            "a library changed since; restore it from a backup, or ingest under another corpus.name"
        )

    def _make(self, surveyed: Survey, parent: Parent, key: str, *, retry: bool) -> tuple[Manifest, int]:
        """Carry out a draft; the manifest is not committed yet. A retry that changes nothing gives back the parent."""
        found = surveyed.found
        draw = draft(surveyed, parent, self.how, retry=retry)
        roll = draw.roll
        retried = retry and _asked_again(draw, parent)
        with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
            place = Place.of(surveyed, self.store.url)
            plan = ShardPlan(draw, parent, place, self.how.shard_size, Path(scratch))
            # Joining left memory that the hours of decoding ahead do not need.
            pa.default_memory_pool().release_unused()
            harvest = self._carry_out(plan, len(plan), surveyed, draw, reuse=not retried)
            done = results_of(plan, [job.key for job in plan], harvest, roll, parent)
        if parent.manifest and not done.kept and surveyed.digest == parent.manifest.inputs[0]:
            return parent.manifest, 0
        warnings = check_splits(roll, found.scan.classes, self.corpus.split)
        leaks = mark_leaks(roll, done.index, LIMITS.get(found.scan.modality, OTHER_LIMIT))
        index, new_index = self._table("index", done.index, INDEX)
        catalog, new_catalog = self._table("catalog", roll.catalog(), CATALOG)
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=key,
            inputs=[surveyed.digest, parent.digest],
            section=found.section,
            outputs=[*parent.shards, *done.outputs, index, catalog],
            quarantine=quarantine_of(roll),
            facts={
                **facts_of(found, roll, leaks),
                "cropped": done.cropped + (parent.manifest.facts["cropped"] if parent.manifest else 0),
                "removed": draw.removed,
                "changed": draw.changed,
                "notes": notes_of(found, warnings, draw.removed, draw.changed),
                "parent": parent.manifest.key if parent.manifest else "",
                "retried": retried,
            },
        )
        return manifest, done.made + new_index + new_catalog

    def _carry_out(
        self, jobs: Iterable[ShardJob], total: int, surveyed: Survey, draw: Draft | None = None, *, reuse: bool
    ) -> Harvest:
        work = Work(
            self.cluster,
            self.cache,
            surveyed,
            attempts=self.run_section.attempts,
            progress=self.progress,
            stop=self.stop,
            check=Budget(draw.roll, self.how).check if draw is not None else lambda bad: None,
            verify=self.run_section.verify,
        )
        return carry_out(work, jobs, total, reuse=reuse)

    def _table(self, kind: str, table: pa.Table, schema: pa.Schema) -> tuple[Output, int]:
        """Store a Parquet table; (output, 1 when it was not there yet)."""
        data = to_parquet(table, schema)
        sha = sha256_bytes(data)
        name = f"catalogs/{self.title}/{kind}-{sha}.parquet"
        output = Output(name=name, id=sha, bytes=len(data), sha256=sha, samples=table.num_rows, meta={"kind": kind})
        if not self.cache.missing([output], verify=True):
            return output, 0
        self.store.put(name, data)
        return output, 1


def _asked_again(draw: Draft, parent: Parent) -> bool:
    """Whether the draft stores images that the parent could not read."""
    keys = draw.roll.text("key").take(pa.array(draw.new))
    at = place_in(keys, parent.keys)
    before = parent.catalog["status"].take(pa.array(at[at >= 0]))
    return QUARANTINED in before.unique().to_pylist()
