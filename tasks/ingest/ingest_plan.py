"""Which images an ingest stores, and in which shard: decided before anything is decoded (DESIGN: Shard)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.digest import digest_of
from infra.errors import BudgetError, CorpusError, CorruptError
from infra.storage.manifest import Output
from tasks.corpora.scan import ATTRIBUTES
from tasks.data.catalog import OK, QUARANTINED, SPLITS
from tasks.ingest.corpus_listing import ListedCorpus
from tasks.ingest.image_table import NOT_READABLE, ImageTable, as_text, mask, place_in, stored_texts
from tasks.ingest.leakage import refuse_contradictions
from tasks.ingest.left_out import forget_grades_by_quality, leave_out, not_known_yet
from tasks.ingest.near_groups import NearGroups, new_without_patient, stored_rows
from tasks.ingest.parent import Parent
from tasks.ingest.shard import ShardItem, ShardJob
from tasks.ingest.splits import EarlierSplits, assign_splits, check_splits
from tasks.preprocessing.stored_image import recipe_of
from tasks.spec import IngestSection

Check = Callable[[Sequence[str]], None]
GroupNear = Callable[[ImageTable, np.ndarray, Check], NearGroups]
"""Near duplicates among rows of a table: its mask, and what is called with messages on images that cannot be read."""

_ITEM_COLUMNS = ("key", "path", "stamp", "source_sha256", "label", "labels")


@dataclass(frozen=True)
class IngestPlan:
    """All rows with their splits, and which of them are to be stored."""

    images: ImageTable
    new: np.ndarray  # numbers of the rows that no shard holds yet and that may go into one, by key
    removed: int  # images in shards whose file is gone
    changed: int  # images in shards whose file holds other bytes now
    near: NearGroups | None = None  # near duplicates that were kept together, where any were looked for

    def retries(self, parent: Parent) -> bool:
        """Whether it stores images that the parent could not read."""
        keys = self.images.text("key").take(pa.array(self.new))
        at = place_in(keys, parent.keys)
        before = parent.catalog["status"].take(pa.array(at[at >= 0]))
        return QUARANTINED in before.unique().to_pylist()


def plan_ingest(
    listed: ListedCorpus,
    parent: Parent,
    section: IngestSection,
    *,
    retry: bool = False,
    alone: bool = True,
    group_near: GroupNear | None = None,
) -> IngestPlan:
    """Compare corpus and parent, assign splits, choose what is new.

    Args:
        retry: try files again that could not be read before.
        alone: as of `check_splits`.
        group_near: finds near duplicates among new images without a patient; None splits them as they come.

    Raises:
        CorpusError: a split is empty, train lacks a class, or an official split changed.
        BudgetError: too many rows are at fault already.
    """
    images, scan = listed.images, listed.scanned.scan
    refuse_contradictions(images)
    at, stored = place_in(images.text("key"), parent.keys), stored_rows(images, parent)
    changed = _restore_stored(images, parent, at, stored)
    if not retry:
        _restore_quarantined(images, parent, at, stored)
    places = np.full(len(images), -1, np.int8)
    places[stored] = parent.splits[at[stored]]
    fresh = new_without_patient(images, stored)
    near = group_near(images, fresh, FaultBudget(images, section).check) if group_near and fresh.any() else None
    before = EarlierSplits(places, *parent.patient_splits)
    assign_splits(images, listed.scanned.corpus.split, scan.official, before, near)
    gone = parent.stored & ~mask(pc.is_in(parent.keys, value_set=images.text("key")))
    left = parent.rows(gone)
    forget_grades_by_quality(left, parent.min_quality)
    images.append(left)
    # The budget first: rows at fault are often why a split is empty.
    FaultBudget(images, section).check()
    waiting = images.usable & ~np.concatenate([stored, np.ones(int(gone.sum()), bool)])
    taken = images.copy()
    if not not_known_yet(images, listed.scanned.corpus, waiting):
        leave_out(taken, listed.scanned.corpus)
    try:
        check_splits(taken, scan.classes, listed.scanned.corpus.split, alone=alone)
    except CorpusError as error:
        joined = near.notes if near is not None else []
        raise CorpusError(f"{error}. {joined[0][:1].upper()}{joined[0][1:]}" if joined else str(error)) from None
    order = images.by_key()
    return IngestPlan(images, order[waiting[order]], int(gone.sum()), changed, near)


def _restore_stored(images: ImageTable, parent: Parent, at: np.ndarray, stored: np.ndarray) -> int:
    """What a shard holds stays usable; only its label may go. Returns how many files changed since."""
    if not stored.any():
        return 0
    before = pa.array(at[stored])
    # The shard has its own copy.
    unread = stored & mask(pc.starts_with(images.text("reason"), NOT_READABLE))
    images.set_text("status", unread, OK)
    images.set_text("reason", unread, "")
    withdrawn = stored & ~images.usable
    reasons = images.text("reason").filter(pa.array(withdrawn))
    images.set_text("reason", withdrawn, pc.binary_join_element_wise("label withdrawn: ", reasons, ""))
    images.set_text("status", withdrawn, OK)
    images.clear_labels(withdrawn)
    then = as_text(parent.catalog["source_sha256"]).take(before)
    now = images.text("source_sha256").filter(pa.array(stored))
    changed = mask(pc.and_(pc.not_equal(now, then), pc.not_equal(now, "")))
    images.set_text("source_sha256", stored, then)
    # What headers told of them stays known.
    told = stored & images.is_dicom
    for name in (n for n in ATTRIBUTES if n != "gradable") if told.any() else ():
        blank = told & images.where(name, "")
        images.set_text(name, blank, stored_texts(parent.catalog.take(pa.array(at[blank])))[name])
    for name in ("width", "height", "quality"):
        images.numbers(name)[stored] = parent.catalog[name].to_numpy()[at[stored]]
    images.numbers("overlay")[stored] = parent.overlays[at[stored]]
    return int(changed.sum())


def _restore_quarantined(images: ImageTable, parent: Parent, at: np.ndarray, stored: np.ndarray) -> None:
    known = images.usable & (at >= 0) & ~stored
    if not known.any():
        return
    rows = np.flatnonzero(known)
    before = parent.catalog.take(pa.array(at[rows]))
    same = pc.and_(
        pc.and_(
            pc.equal(before["status"], QUARANTINED),
            pc.equal(before["source_sha256"].combine_chunks(), images.text("source_sha256").take(pa.array(rows))),
        ),
        pc.starts_with(before["reason"], NOT_READABLE),
    )
    restored = np.zeros(len(images), bool)
    restored[rows[mask(same)]] = True
    images.quarantine(restored, as_text(before["reason"].filter(same)))


class FaultBudget:
    """How many images may be at fault. Those of the table are counted once: `check` is called after every shard."""

    def __init__(self, images: ImageTable, section: IngestSection) -> None:
        faults = images.where("status", QUARANTINED)
        self._section, self._images, self._faults = section, int(images.has_file.sum()), int(faults.sum())
        self._examples = [
            f"{name}: {reason}" for name, reason in images.first_rows(("display_name", "reason"), rows=faults)
        ]

    def check(self, more: Sequence[str] = ()) -> None:
        """BudgetError, naming the first few, when more images are at fault than the spec allows.

        Args:
            more: images found at fault beside those of the image table, as messages.
        """
        count, section = self._faults + len(more), self._section
        if count > section.max_bad and count > section.max_bad_share * self._images:
            raise BudgetError(
                f"{count} of {self._images} images are at fault, more than ingest.max_bad {section.max_bad} and "
                f"ingest.max_bad_share {section.max_bad_share} allow: {'; '.join([*self._examples, *more][:3])}; ..."
            )


@dataclass(frozen=True)
class ShardSettings:
    """What all shard jobs of an ingest share: where images come from, what becomes of them, where shards go."""

    store: str
    source: str
    folder: str
    recipe: dict[str, Any]
    private: str = ""  # title of the corpus where it is private

    @classmethod
    def of(cls, listed: ListedCorpus, store: str, bits: int | None = None) -> ShardSettings:
        """A folder a section, so that sizes and qualities never mix.

        Args:
            bits: in use of deep samples, where known.
        """
        scanned = listed.scanned
        return cls(
            store,
            scanned.source.url,
            shard_folder(scanned.corpus.title, scanned.section),
            _plain_recipe(scanned.section) | ({"bits": bits} if bits else {}),
            scanned.corpus.title if scanned.corpus.private else "",
        )

    def job(self, split: str, number: int, items: Iterable[ShardItem], sha: str = "") -> ShardJob:
        """A shard's job."""
        items, how = tuple(items), self.recipe
        return ShardJob(self.store, self.source, self.folder, split, number, how, items, sha, private=self.private)


def shard_folder(title: str, section: dict[str, object]) -> str:
    """Folder of the shards in the store."""
    return f"shards/{title}/{digest_of(section)[:8]}"


def _plain_recipe(section: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe for jobs; what came later is left out where it is unset, so that units of before are found."""
    return {name: value for name, value in asdict(recipe_of(section)).items() if name != "mask" or value}


class ShardPlan:
    """New shards, in order: runs of `shard_size` consecutive keys that no shard holds yet, one split each.

    Numbers go on from the parent's, so that its shards keep theirs.

    Args:
        folder: where the plan's file lies while it is carried out.
    """

    def __init__(
        self, plan: IngestPlan, parent: Parent, settings: ShardSettings, shard_size: int, folder: Path
    ) -> None:
        self.settings = settings
        self._file = folder / "plan.parquet"
        self._shards: list[tuple[str, int]] = []
        split = plan.images.numbers("split")[plan.new]
        writer = None
        for code, name in enumerate(SPLITS):
            number = 1 + max((int(o.meta["number"]) for o in parent.shards if o.meta["split"] == name), default=-1)
            for batch in plan.images.batches(plan.new[split == code], shard_size):
                table = batch.select(_ITEM_COLUMNS)
                writer = writer or pq.ParquetWriter(self._file, table.schema, compression="lz4")
                writer.write_table(table, row_group_size=shard_size)
                self._shards.append((name, number))
                number += 1
        if writer is not None:
            writer.close()

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[ShardJob]:
        if not self._shards:
            return
        with pq.ParquetFile(self._file) as file:
            for group, (split, number) in enumerate(self._shards):
                yield self.settings.job(split, number, items_of(file.read_row_group(group)))


def items_of(table: pa.Table) -> list[ShardItem]:
    """The items that rows with the columns key, path, stamp, source_sha256, label and labels stand for."""
    columns = [table[name].to_pylist() for name in _ITEM_COLUMNS]
    return [
        ShardItem(key, path, stamp, sha, label, tuple(labels) if labels is not None else None)
        for key, path, stamp, sha, label, labels in zip(*columns, strict=True)
    ]


def repair_jobs(
    missing: Iterable[Output], shards: list[Output], index: pa.Table, listed: ListedCorpus, settings: ShardSettings
) -> Iterator[ShardJob]:
    """Jobs that make lost shards again, each as it was: from the index and the source files.

    Args:
        missing: the lost shards.
        shards: all shards of the manifest, in order.
        index: the manifest's index.

    Raises:
        CorruptError: a source file is no longer in the corpus.
    """
    number = {output.name: i for i, output in enumerate(shards)}
    images = listed.images
    for output in missing:
        rows = index.filter(pc.equal(index["shard"], number[output.name]))
        keys = rows["key"].combine_chunks()
        at = place_in(keys, images.text("key"))
        there = (at >= 0) & images.has_file[at]
        if not there.all():
            gone = np.flatnonzero(~there)
            raise CorruptError(
                f"{output.name} is lost, and the source file of {keys[int(gone[0])]} is no longer in the corpus "
                f"({len(gone)} such files); put them back, or ingest under another corpus.name"
            )
        found = pa.array(at)
        rows = rows.append_column("path", images.text("path").take(found))
        rows = rows.append_column("stamp", images.text("stamp").take(found))
        settings_then = replace(settings, folder=output.name.rpartition("/")[0])
        yield settings_then.job(str(output.meta["split"]), int(output.meta["number"]), items_of(rows), output.sha256)
