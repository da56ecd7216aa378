"""What an ingest is going to do: survey and parent together, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import BudgetError
from tasks.data.catalog import OK, QUARANTINED
from tasks.ingest.parent import Parent
from tasks.ingest.roll import NOT_READABLE, Roll, as_text, mask, place_in
from tasks.ingest.splits import Before, assign_splits, check_splits
from tasks.ingest.survey import Survey
from tasks.ingest.trust import refuse_contradictions
from tasks.spec import IngestSection


@dataclass(frozen=True)
class Draft:
    """All rows with their splits, and which of them are to be stored."""

    roll: Roll
    new: np.ndarray  # numbers of the rows that no shard holds yet and that may go into one, by key
    removed: int  # images in shards whose file is gone
    changed: int  # images in shards whose file holds other bytes now


def draft(survey: Survey, parent: Parent, section: IngestSection, *, retry: bool = False) -> Draft:
    """Join survey and parent, assign splits, choose what is new.

    Args:
        retry: ask files again that could not be read before.

    Raises:
        CorpusError: a split is empty, train lacks a class, or an official split changed.
        BudgetError: too many rows are at fault already.
    """
    roll, scan = survey.roll, survey.found.scan
    refuse_contradictions(roll)
    at = place_in(roll.text("key"), parent.keys)
    stored = np.zeros(len(roll), bool)
    stored[at >= 0] = parent.stored[at[at >= 0]]
    changed = _keep_stored(roll, parent, at, stored)
    if not retry:
        _keep_quarantined(roll, parent, at, stored)
    places = np.full(len(roll), -1, np.int8)
    places[stored] = parent.splits[at[stored]]
    assign_splits(roll, survey.found.corpus.split, scan.official, Before(places, *parent.people))
    gone = parent.stored & ~mask(pc.is_in(parent.keys, value_set=roll.text("key")))
    roll.append(parent.rows(gone))
    # The budget first: rows at fault are often why a split is empty.
    Budget(roll, section).check()
    check_splits(roll, scan.classes, survey.found.corpus.split)
    waiting = roll.usable & ~np.concatenate([stored, np.ones(int(gone.sum()), bool)])
    order = roll.by_key()
    return Draft(roll, order[waiting[order]], int(gone.sum()), changed)


def _keep_stored(roll: Roll, parent: Parent, at: np.ndarray, stored: np.ndarray) -> int:
    """What a shard holds stays usable; only its label may go. Returns how many files changed since."""
    if not stored.any():
        return 0
    before = pa.array(at[stored])
    # The shard has its own copy.
    unread = stored & mask(pc.starts_with(roll.text("reason"), NOT_READABLE))
    roll.put("status", unread, OK)
    roll.put("reason", unread, "")
    withdrawn = stored & ~roll.usable
    reasons = roll.text("reason").filter(pa.array(withdrawn))
    roll.put("reason", withdrawn, pc.binary_join_element_wise("label withdrawn: ", reasons, ""))
    roll.put("status", withdrawn, OK)
    roll.unlabel(withdrawn)
    then = as_text(parent.catalog["source_sha256"]).take(before)
    now = roll.text("source_sha256").filter(pa.array(stored))
    changed = mask(pc.and_(pc.not_equal(now, then), pc.not_equal(now, "")))
    roll.put("source_sha256", stored, then)
    for name in ("width", "height"):
        roll.numbers(name)[stored] = parent.catalog[name].to_numpy()[at[stored]]
    return int(changed.sum())


def _keep_quarantined(roll: Roll, parent: Parent, at: np.ndarray, stored: np.ndarray) -> None:
    known = roll.usable & (at >= 0) & ~stored
    if not known.any():
        return
    rows = np.flatnonzero(known)
    before = parent.catalog.take(pa.array(at[rows]))
    same = pc.and_(
        pc.and_(
            pc.equal(before["status"], QUARANTINED),
            pc.equal(before["source_sha256"].combine_chunks(), roll.text("source_sha256").take(pa.array(rows))),
        ),
        pc.starts_with(before["reason"], NOT_READABLE),
    )
    kept = np.zeros(len(roll), bool)
    kept[rows[mask(same)]] = True
    roll.refuse(kept, as_text(before["reason"].filter(same)))


class Budget:
    """How many images may be at fault; the roll's own are counted once, for shards ask after every landing."""

    def __init__(self, roll: Roll, section: IngestSection) -> None:
        faults = roll.where("status", QUARANTINED)
        self._section, self._images, self._faults = section, int(roll.has_file.sum()), int(faults.sum())
        self._told = [f"{name}: {reason}" for name, reason in roll.told(("shown", "reason"), rows=faults)]

    def check(self, more: Sequence[str] = ()) -> None:
        """BudgetError, naming the first few, when more images are at fault than the spec allows.

        Args:
            more: images found at fault beside those of the roll, as messages.
        """
        count, section = self._faults + len(more), self._section
        if count > section.max_bad and count > section.max_bad_share * self._images:
            raise BudgetError(
                f"{count} of {self._images} images are at fault, more than ingest.max_bad {section.max_bad} and "
                f"ingest.max_bad_share {section.max_bad_share} allow: {'; '.join([*self._told, *more][:3])}; ..."
            )
