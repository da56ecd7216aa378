"""Splits: official ones as they are, ours by patient, stratified, the same every time.

A patient never straddles splits of our making, and neither do two files of equal bytes. Patients that an
earlier ingest assigned stay where they are; new ones fill what is then missing of the wanted shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.digest import digest_of
from infra.errors import CorpusError
from tasks.data.catalog import SPLITS
from tasks.ingest.people import People, people_of
from tasks.ingest.roll import Roll
from tasks.spec import SplitSection

TRAIN, VAL, TEST = range(len(SPLITS))
NO_PLACE = "it has a label, but no place in the official split"


@dataclass(frozen=True)
class Before:
    """What an earlier ingest settled."""

    stored: np.ndarray  # int8 [N]: split of rows that lie in shards already, -1 where they do not
    persons: pa.Array  # persons that have a place ...
    places: np.ndarray  # ... and their split, int8


def assign_splits(roll: Roll, section: SplitSection, official: frozenset[str], before: Before) -> None:
    """Set `split` of every usable row; may quarantine some.

    Splits that the corpus defines itself (`official`) are taken as they stand. Those that it does not
    define are carved out of its train split, or out of everything, by patient.

    Raises:
        CorpusError: the official split of a stored image has changed.
    """
    own = roll.numbers("official")
    _refuse_moves(roll, official, before)
    ours = [s for s in ("test", "val") if s not in official]
    usable, labelled = roll.usable, roll.labelled
    if not ours and "train" in official:
        roll.refuse(usable & labelled & (own < 0) & (before.stored < 0), NO_PLACE)
        usable = roll.usable
    people = people_of(roll, usable)
    held = _held_out(people, own, usable)
    pool = usable & labelled & (own <= TRAIN) & (held[people.person] < 0)
    known = people.places(before.persons, before.places)
    carved = _carve(
        roll,
        people,
        pool,
        {TEST: section.test if "test" in ours else 0.0, VAL: section.val if "val" in ours else 0.0},
        section.seed,
        known,
    )
    kin, person = people.kin, people.person
    place = np.where(held[person] >= 0, held[person], np.where(carved[kin] >= 0, carved[kin], known[kin]))
    place = np.where(place >= 0, place, TRAIN)
    place = np.where(own == TRAIN, np.where(carved[kin] >= 0, carved[kin], TRAIN), place)
    place = np.where(own > TRAIN, own, place)
    place = np.where(before.stored >= 0, before.stored, place)
    roll.numbers("split")[usable] = place[usable]
    # A labelled image without a place, whose patient the corpus holds out: it may be neither trained nor tested on.
    astray = usable & labelled & (own < 0) & (before.stored < 0) & (held[person] >= 0)
    for split in (VAL, TEST):
        roll.refuse(
            astray & (held[person] == split), f"its patient is in the official {SPLITS[split]} split, it is in none"
        )


def _refuse_moves(roll: Roll, official: frozenset[str], before: Before) -> None:
    own, stored = roll.numbers("official"), before.stored
    theirs = np.array([name in official for name in SPLITS])
    same = (own == stored) | ((own == TRAIN) & ~theirs[stored])
    moved = roll.usable & (stored >= 0) & (own >= 0) & ~same
    if moved.any():
        first = int(np.flatnonzero(moved)[0])
        raise CorpusError(
            f"{int(moved.sum())} images stand in another official split than when they were ingested, first "
            f"{roll.shown[first]}: {SPLITS[own[first]]}, stored as {SPLITS[stored[first]]}. Shards do not change; "
            "ingest under another corpus.name"
        )


def _held_out(people: People, own: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """[P] int8: the official val or test split in which a person stands, test first; -1 for none."""
    held = np.full(people.count, -1, np.int8)
    for split in (VAL, TEST):
        held[people.person[usable & (own == split)]] = split
    return held


def _carve(
    roll: Roll, people: People, pool: np.ndarray, shares: dict[int, float], seed: int, known: np.ndarray
) -> np.ndarray:
    """[K] int8, split of each kin of the pool: within each stratum, kin in hash order fill test, then val, then train.

    Args:
        pool: [N] bool, rows to share out.
        known: [K] int8, places that an earlier ingest gave.
    """
    found = np.full(people.kins, -1, np.int8)
    strata = _strata(roll, people, pool)
    lots = _lots(roll, people, pool, seed)
    for stratum in sorted(set(strata.values())):
        kin = np.array(sorted((k for k, s in strata.items() if s == stratum), key=lots.__getitem__))
        found[kin] = known[kin]
        waiting = kin[found[kin] < 0]
        filled = Counter(found[kin].tolist())
        # One patient of every class stays in train, however few there are.
        spare = len(waiting) - (filled[TRAIN] == 0)
        at = 0
        for split in (TEST, VAL):
            wanted = int(shares[split] * len(kin) + 0.5) - filled[split]
            take = max(0, min(wanted, spare))
            found[waiting[at : at + take]] = split
            at, spare = at + take, spare - take
        found[waiting[at:]] = TRAIN
    return found


def _lots(roll: Roll, people: People, pool: np.ndarray, seed: int) -> dict[int, str]:
    """Kin to what orders it: the least digest among its members'."""
    found: dict[int, str] = {}
    rows = np.flatnonzero(pool)
    texts = roll.text("lot").take(pa.array(rows)).to_pylist()
    seen: dict[str, str] = {}
    for kin, lot in zip(people.kin[rows].tolist(), texts, strict=True):
        digest = seen.get(lot) or seen.setdefault(lot, digest_of(["split", seed, lot]))
        if kin not in found or digest < found[kin]:
            found[kin] = digest
    return found


def _strata(roll: Roll, people: People, pool: np.ndarray) -> dict[int, int]:
    """Kin to the rarest of its labels; -1 where a multilabel kin has none of them."""
    rows = np.flatnonzero(pool)
    if roll.labels is None:
        pairs = np.stack([people.kin[rows], roll.numbers("label")[rows]], axis=1)
    else:
        at, label = np.nonzero(roll.labels[rows] > 0)
        pairs = np.stack([people.kin[rows[at]], label], axis=1)
    found = dict.fromkeys(np.unique(people.kin[rows]).tolist(), -1)
    if len(pairs):
        pairs = np.unique(pairs, axis=0)
        common = np.bincount(pairs[:, 1])
        order = np.lexsort((pairs[:, 1], common[pairs[:, 1]], pairs[:, 0]))
        kin, first = np.unique(pairs[order, 0], return_index=True)
        found.update(zip(kin.tolist(), pairs[order[first], 1].tolist(), strict=True))
    return found


def check_splits(roll: Roll, classes: Sequence[str], section: SplitSection) -> list[str]:
    """Notes on classes that val or test lack.

    Raises:
        CorpusError: a split is empty, or train lacks a class; gives the counts and what to do.
    """
    counts = count_labels(roll, classes)
    table = "; ".join(f"{s}: " + ", ".join(f"{c} {n}" for c, n in counts[s].items()) for s in SPLITS)
    # A multilabel image with none of the classes is labelled all the same.
    rows = roll.usable & roll.labelled
    labelled = {name: bool((rows & (roll.numbers("split") == i)).any()) for i, name in enumerate(SPLITS)}
    for split in SPLITS:
        by_choice = split != "train" and getattr(section, split) == 0
        if not labelled[split] and not by_choice:
            raise CorpusError(
                f"no labelled image in the {split} split ({table}). Check corpus.split and the corpus's own "
                "split files, or add labelled images"
            )
    absent = [name for name, n in counts["train"].items() if n == 0]
    if absent:
        raise CorpusError(
            f"no training image of class {', '.join(absent)} ({table}). Add some, leave the class out of "
            "corpus.classes and name its label under corpus.table.unlabelled, or split otherwise"
        )
    return [
        f"no image of class {name} in the {split} split"
        for split in ("val", "test")
        for name, n in counts[split].items()
        if n == 0 and labelled[split]
    ]


def count_labels(roll: Roll, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images by split and class; an image of a multilabel corpus counts for each of its labels."""
    usable, counts = roll.usable, {}
    for number, split in enumerate(SPLITS):
        rows = usable & (roll.numbers("split") == number)
        if roll.labels is None:
            label = roll.numbers("label")[rows]
            found = np.bincount(label[label >= 0], minlength=len(classes))
        else:
            found = (roll.labels[rows] > 0).sum(axis=0)
        counts[split] = {name: int(n) for name, n in zip(classes, found, strict=True)}
    return counts
