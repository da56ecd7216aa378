"""Ingest: corpus files -> shards + catalog + quarantine (DESIGN: The line)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from infra.cache import StageCache, UnitRecord
from infra.cluster import Cluster
from infra.digest import sha256_bytes, unit_key
from infra.errors import CorruptError
from infra.manifest import Manifest, Output, manifest_name
from infra.store import MissingObjectError, Store
from tasks.catalog import CATALOG, INDEX, QUARANTINED, from_parquet, to_parquet
from tasks.ingest.draft import Draft, check_budget, draft, place_of, shard_folder
from tasks.ingest.entries import catalog_table
from tasks.ingest.facts import facts_of, notes_of, quarantine_of
from tasks.ingest.parent import Parent, read_head, write_head, write_info
from tasks.ingest.plan import index_table, repair_jobs
from tasks.ingest.shard import STAGE, VERSION, ShardJob
from tasks.ingest.splits import check_splits, mark_leaks
from tasks.ingest.survey import Survey, scan_corpus, survey
from tasks.ingest.work import carry_out
from tasks.result import StageResult
from tasks.spec import Spec

Progress = Callable[[int, int], None]
Stop = Callable[[], bool]

__all__ = ["STAGE", "VERSION", "ingest"]


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
    return _Ingest(spec, store, cluster, progress or (lambda done, total: None), stop).run()


class _Ingest:
    def __init__(self, spec: Spec, store: Store, cluster: Cluster, progress: Progress, stop: Stop | None) -> None:
        self.spec, self.store, self.cluster = spec, store, cluster
        self.progress, self.stop = progress, stop
        self.cache, self.title, self.run_section = StageCache(store), spec.corpus.title, spec.run
        self.scan, self.section = scan_corpus(spec)

    def run(self) -> StageResult:
        head = read_head(self.store, self.title)
        if head is not None and head.section != self.section:
            head = None
        try:
            parent = Parent.load(self.store, head)
        except MissingObjectError:
            assert head is not None
            return self._make_whole(head)
        found = self._survey(parent)
        key = unit_key(STAGE, VERSION, inputs=[found.source, parent.digest], section=self.section)
        if not self.run_section.retry_quarantined:
            if head is not None and head.inputs[0] == found.source:
                return self._found(head, found)
            # Committed by a run that was killed before it moved the head, or under an older head.
            hit = self.cache.lookup(STAGE, key)
            if hit is not None:
                return self._found(hit.manifest, found)
        mended = self._mend(head, found) if head is not None else 0
        manifest, made = self._make(found, parent, key, retry=self.run_section.retry_quarantined)
        return self._close(manifest, made + mended)

    def _survey(self, parent: Parent) -> Survey:
        return survey(self.spec, self.store, self.scan, self.section, parent.keys_by_source)

    def _found(self, manifest: Manifest, found: Survey) -> StageResult:
        lost = self.cache.missing(manifest.outputs, verify=self.run_section.verify)
        if any(output.meta["kind"] != "shard" for output in lost):
            return self._make_whole(manifest)
        return self._close(manifest, self._mend(manifest, found, lost))

    def _close(self, manifest: Manifest, made: int) -> StageResult:
        write_info(self.store, manifest, shard_folder(self.title, self.section))
        head = read_head(self.store, self.title)
        if head is None or head.digest != manifest.digest:
            write_head(self.store, self.title, manifest)
        return StageResult(manifest, made, len(manifest.outputs))

    def _mend(self, manifest: Manifest, found: Survey, lost: Sequence[Output] | None = None) -> int:
        """Make lost shards again, the same bytes; returns how many."""
        shards = manifest.outputs_where(kind="shard")
        if lost is None:
            lost = self.cache.missing(shards, verify=self.run_section.verify)
        if lost:
            index = from_parquet(self.store.get(manifest.output(kind="index").name))
            place = place_of(self.spec, self.store, found)
            self._carry_out(repair_jobs(lost, shards, index, found.paths, place), {}, found)
        return len(lost)

    def _make_whole(self, manifest: Manifest) -> StageResult:
        """Its catalog or index is lost: make the whole of it again from its own parent."""
        try:
            key = manifest.facts["parent"]
            before = Manifest.from_bytes(self.store.get(manifest_name(STAGE, key))) if key else None
            parent = Parent.load(self.store, before)
        except MissingObjectError as error:
            raise CorruptError(f"{self.title}: catalog or index is lost, and its parent's too: {error}") from None
        found = self._survey(parent)
        if manifest.inputs == [found.source, parent.digest]:
            mended = self._mend(before, found) if before is not None else 0
            again, made = self._make(found, parent, manifest.key, retry=manifest.facts["retried"])
            if again.digest == manifest.digest:
                return self._close(again, made + mended)
        raise CorruptError(
            f"{self.title}: catalog or index is lost and cannot be made again as it was, because the corpus or "
            "a library changed since; restore it from a backup, or ingest under another corpus.name"
        )

    def _make(self, found: Survey, parent: Parent, key: str, *, retry: bool) -> tuple[Manifest, int]:
        """Carry out a draft and commit it; a retry that changes nothing gives back the parent."""
        plan = draft(self.spec, self.store, found, parent, retry=retry)
        asked = {k for k, row in parent.catalog.items() if row["status"] == QUARANTINED}
        retried = retry and any(item.key in asked for job in plan.jobs for item in job.items)
        known: dict[str, UnitRecord] = {}
        if not retried:
            known = self.cache.recorded(STAGE, [j.key for j in plan.jobs], verify=self.run_section.verify)
        records = self._carry_out(plan.jobs, known, found, plan)
        kept = [(job, records[job.key]) for job in plan.jobs if records[job.key].outputs]
        if parent.manifest and not kept and found.source == parent.manifest.inputs[0]:
            return parent.manifest, 0
        _note_results(plan, records)
        warnings = check_splits(plan.entries, self.scan.classes, self.spec.corpus.split)
        mark_leaks(plan.entries)
        index, new_index = self._table("index", index_table(parent, kept), INDEX)
        catalog, new_catalog = self._table("catalog", catalog_table(plan.entries), CATALOG)
        facts = {
            **facts_of(found, plan.entries),
            "removed": plan.removed,
            "changed": plan.changed,
            "notes": notes_of(found, warnings, plan.removed, plan.changed),
            "parent": parent.manifest.key if parent.manifest else "",
            "retried": retried,
        }
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=key,
            inputs=[found.source, parent.digest],
            section=self.section,
            outputs=[*parent.shards, *(o for _, record in kept for o in record.outputs), index, catalog],
            quarantine=quarantine_of(plan.entries),
            facts=facts,
        )
        made = sum(job.key not in known for job, _ in kept) + new_index + new_catalog
        return self.cache.commit(manifest), made

    def _carry_out(
        self, jobs: Sequence[ShardJob], known: Mapping[str, UnitRecord], found: Survey, plan: Draft | None = None
    ) -> dict[str, UnitRecord]:
        def check(bad: Sequence[str]) -> None:
            if plan is not None:
                check_budget(plan.entries, self.spec.ingest, bad)

        return carry_out(
            self.cluster,
            jobs,
            known,
            found,
            attempts=self.run_section.attempts,
            progress=self.progress,
            stop=self.stop,
            check=check,
        )

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


def _note_results(plan: Draft, records: Mapping[str, UnitRecord]) -> None:
    """What decoding found out goes to the rows: source sizes, and faults."""
    entries = {entry.key: entry for entry in plan.entries}
    for job in plan.jobs:
        record = records[job.key]
        for key, _, _, _, width, height in record.facts["rows"]:
            entries[key].width, entries[key].height = width, height
        for fault in record.quarantine:
            entries[fault.source].refuse(fault.reason)
