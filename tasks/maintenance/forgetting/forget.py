"""Forget: erase patients and images from a store, and keep them out.

A tombstone is written first, so that from then on no ingest takes the images again, and whoever erases knows what is
left to do: everything of every corpus that its tombstones match. A corpus whose head has erased images gets a new
manifest with shards, index and catalog without them, and the soft labels of the other images move along; then the head
moves; then everything goes that showed the erased images, the catalogs last, because they tell what is erased. So an
erasure that is interrupted goes on when `forget` is started again, from whatever point.

Weights of networks stay: who learned the images is listed, and a person decides. What a retrain makes after an erasure
is made without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from infra.errors import CorruptError, PermanentError, UsageError
from infra.storage.manifest import seal, unseal
from infra.storage.stage_cache import StageCache
from infra.storage.store import MissingObjectError, Store
from tasks.data.tombstones import FOLDER, PENDING, Tombstones, write_tombstone
from tasks.ingest.digest_cache import erase_from_listings
from tasks.ingest.hash_cache import erase_hashes
from tasks.ingest.ingest_plan import shard_folder
from tasks.ingest.parent import write_head, write_info
from tasks.ingest.private_words import PrivateWords
from tasks.maintenance.forgetting.labels import carry_labels
from tasks.maintenance.forgetting.request import find_requested, ingest_manifests
from tasks.maintenance.forgetting.rewritten import rewrite_corpus
from tasks.maintenance.forgetting.survey import (
    AffectedManifest,
    LearnedBy,
    affected_manifests,
    affected_sets,
    affected_units,
    derived_manifests,
    learned_by,
    teacher_tables,
    unnamed_objects,
)
from tasks.maintenance.store_contents import StoreContents, read_contents
from tasks.maintenance.under_way import collecting, runs_under_way

_LEFTOVER_SECONDS = 60.0  # age from which an incomplete file of a writer that died goes
Progress = Callable[[int, int], None]


@dataclass
class ErasedCorpus:
    """What was erased of one corpus, or would be."""

    title: str
    images: int = 0  # rows of catalogs, in all versions of the corpus
    shards: int = 0  # that held them
    labels_kept: int = 0  # predictions of the rewritten shards' other images
    labels_again: int = 0  # of images that were mixed with erased ones: the next run makes them
    private: bool = False


@dataclass
class ForgetReport:
    """What an erasure did, or would do."""

    done: bool
    corpora: list[ErasedCorpus] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0
    tables: list[str] = field(default_factory=list)  # files of teachers that had rows of erased images
    learned: LearnedBy = field(default_factory=LearnedBy)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "done": self.done,
            "corpora": [vars(each) for each in self.corpora],
            "removed": {"objects": self.objects, "bytes": self.bytes},
            "tables": self.tables,
            **self.learned.to_json(),
        }


def forget(
    store: Store,
    *,
    patients: Sequence[str] = (),
    keys: Sequence[str] = (),
    corpus: str | None = None,
    dry: bool = False,
    progress: Progress | None = None,
) -> ForgetReport:
    """Erase images from a store, or go on with what an interrupted erasure left.

    Args:
        patients: whose images go, as tables or catalog name them; all that come later are kept out too.
        keys: images that go, by key or by path below the corpus's root.
        corpus: title of the corpus to look at; needed where several have a patient or key of that name.
        dry: write nothing, and say what would go.
        progress: called with (objects removed, objects to remove).

    Raises:
        UsageError: somebody is in no corpus, or in several; nothing was erased.
        PermanentError: a run is under way; nothing was erased.
        CorruptError: a manifest, catalog or shard is damaged; run repair first.
    """
    if dry:
        return _would_go(store, patients, keys, corpus)
    with collecting(store):
        running = runs_under_way(store)
        if running:
            raise PermanentError(
                f"{', '.join(running)}: a run is under way, or was killed within the last hour; start forget again "
                "when it has ended. Nothing was erased"
            )
        contents = read_contents(store)
        if patients or keys:
            asked = find_requested(store, contents, patients=patients, keys=keys, corpus=corpus)
            for title, erasure in asked.items():
                _write_pending(store, title, _read_pending(store, title))
                write_tombstone(store, title, erasure.values)
        report = ForgetReport(done=True)
        for title in sorted(_titles_with_tombstones(store)):
            _Corpus(store, title, report, progress or (lambda done, total: None)).erase()
        store.sweep(_LEFTOVER_SECONDS)
    return report


class _Corpus:
    """The erasure of one corpus: all that its tombstones match."""

    def __init__(self, store: Store, title: str, report: ForgetReport, progress: Progress) -> None:
        self.store, self.title, self.report, self.progress = store, title, report, progress
        self.cache = StageCache(store)
        self.tombstones = Tombstones.read(store, title)

    def erase(self) -> None:
        contents = read_contents(self.store)
        manifests = ingest_manifests(self.store, contents).get(self.title, [])
        affected = affected_manifests(self.store, manifests, self.tombstones)
        pending = _read_pending(self.store, self.title)
        if not affected and pending is None:
            return
        found = ErasedCorpus(self.title)
        learned = pending or LearnedBy()
        if affected:
            found = _counted(self.title, affected)
            learned.merge(learned_by(self.store, contents, affected))
            _write_pending(self.store, self.title, learned)
            self._move_head(contents, affected, found)
        tables = teacher_tables(self.store, contents, affected)
        self._remove(affected, tables)
        if affected and affected[0].manifest.facts["private"]:
            _remove_log(self.title)
        self.store.delete(_pending_name(self.title))
        self.report.corpora.append(found)
        self.report.tables += tables
        self.report.learned.merge(learned)

    def _move_head(self, contents: StoreContents, affected: Sequence[AffectedManifest], found: ErasedCorpus) -> None:
        """Write the corpus anew where its head has erased images, and what stays of its soft labels."""
        head = contents.current.get(self.title)
        current = next((each for each in affected if head is not None and each.manifest.name == head.name), None)
        if current is None:
            return
        new = rewrite_corpus(self.cache, current.manifest, current.keys)
        labels = carry_labels(self.cache, contents, {each.before.id: each for each in new.shards})
        found.labels_kept, found.labels_again = labels.kept, labels.again
        self.cache.commit(new.manifest)
        write_info(self.store, new.manifest, shard_folder(self.title, new.manifest.section))
        write_head(self.store, self.title, new.manifest)

    def _remove(self, affected: Sequence[AffectedManifest], tables: Sequence[str]) -> None:
        """Remove what showed the images, catalogs last: until then a new start finds what is left to remove."""
        contents = read_contents(self.store)
        sources = {each.manifest.name for each in affected}
        sets = affected_sets(self.store, contents, affected)
        titles = {self.title, *(each.title for each in sets)}
        derived = derived_manifests(contents, affected, sets) if affected else set()
        units = affected_units(self.store, contents, titles, affected) if affected else set()
        for each in affected:
            erase_from_listings(self.store, self.title, each.rows)
            erase_hashes(self.store, self.title, each.rows)
        last = {o.name for each in affected for o in each.manifest.outputs if o.meta["kind"] != "shard"}
        objects = unnamed_objects(contents, titles, sources | derived, units)
        order = [
            *(name for name in objects if name not in last),
            *tables,
            *sorted(units),
            *sorted(derived),
            *sorted(sources),
            *(name for name in objects if name in last),
        ]
        for count, name in enumerate(order, start=1):
            self.store.delete(name)
            self.report.objects += 1
            self.report.bytes += contents.sizes.get(name, 0)
            self.progress(count, len(order))


def _would_go(store: Store, patients: Sequence[str], keys: Sequence[str], corpus: str | None) -> ForgetReport:
    contents = read_contents(store)
    report = ForgetReport(done=False)
    if not patients and not keys:
        raise UsageError("say whose images are to go: --patient, --key or --from")
    asked = find_requested(store, contents, patients=patients, keys=keys, corpus=corpus)
    manifests = ingest_manifests(store, contents)
    for title, erasure in sorted(asked.items()):
        affected = affected_manifests(store, manifests[title], Tombstones.of(erasure.values))
        report.corpora.append(_counted(title, affected))
        report.tables += teacher_tables(store, contents, affected)
        report.learned.merge(learned_by(store, contents, affected))
    return report


def _counted(title: str, affected: Sequence[AffectedManifest]) -> ErasedCorpus:
    keys = set[str]().union(*(each.keys for each in affected))
    shards = frozenset[str]().union(*(each.shards for each in affected))
    return ErasedCorpus(title, len(keys), len(shards), private=bool(affected[0].manifest.facts["private"]))


def _titles_with_tombstones(store: Store) -> set[str]:
    return {name.removeprefix(FOLDER).rpartition("/")[0] for name in store.sizes(FOLDER)}


def _pending_name(title: str) -> str:
    return f"{FOLDER}{title}/{PENDING}"


def _read_pending(store: Store, title: str) -> LearnedBy | None:
    """Who learned the images of an erasure that is not finished; None when there is none."""
    name = _pending_name(title)
    try:
        told = unseal(store.get(name), name)
    except MissingObjectError:
        return None
    except CorruptError:
        # It says again what the manifests say, as long as they are there.
        return LearnedBy()
    return LearnedBy(told["models"], told["versions"])


def _write_pending(store: Store, title: str, learned: LearnedBy | None) -> None:
    store.put(_pending_name(title), seal((learned or LearnedBy()).to_json()))


def _remove_log(title: str) -> None:
    """Details of a private corpus on this machine may name the patient."""
    log = PrivateWords(title).log
    for path in (log, log.with_name(f"{log.name}.1")):
        with suppress(FileNotFoundError):
            path.unlink()
