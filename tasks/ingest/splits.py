"""Splits: official ones as they are, ours by patient, stratified, the same every time.

A patient never straddles splits of our making, and neither do two files of equal bytes, or near duplicates whose
patient is not known. Patients that an earlier ingest assigned stay where they are; new ones fill what is then missing
of the wanted shares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import digest_of
from infra.errors import CorpusError
from tasks.data.catalog import SPLITS
from tasks.ingest.attribute_filter import having
from tasks.ingest.image_table import TEST, TRAIN, VAL, ImageTable, mask
from tasks.ingest.leakage import PatientGroups, group_patients
from tasks.ingest.near_groups import NearGroups
from tasks.ingest.strata import attribute_strata, check_attributes, label_strata, spread
from tasks.spec import SplitSection

NO_PLACE = "it has a label, but no place in the official split"


@dataclass(frozen=True)
class EarlierSplits:
    """Splits that an earlier ingest assigned."""

    stored: np.ndarray  # int8 [N]: split of rows that lie in shards already, -1 where they do not
    patients: pa.Array  # patients that have a split ...
    places: np.ndarray  # ... and their split, int8


def assign_splits(
    images: ImageTable,
    section: SplitSection,
    official: frozenset[str],
    before: EarlierSplits,
    near: NearGroups | None = None,
) -> None:
    """Set `split` of every usable row; may quarantine some.

    Splits that the corpus defines itself (`official`) are taken as they stand. Those that it does not
    define are carved out of its train split, or out of everything, by patient.

    Args:
        near: near duplicates to keep together. An unlabelled image in no official split that is one of an image in
            official test or val goes there too, where nothing is trained on it.

    Raises:
        CorpusError: the official split of a stored image has changed, or no image has an attribute of
            `corpus.split.stratify`.
    """
    own = images.numbers("official")
    _refuse_moves(images, official, before)
    ours = [s for s in ("test", "val") if s not in official]
    usable, labelled = images.usable, images.labelled
    if not ours and "train" in official:
        images.quarantine(usable & labelled & (own < 0) & (before.stored < 0), NO_PLACE)
        usable = images.usable
    if section.stratify:
        if not ours:
            raise CorpusError("corpus.split.stratify: the corpus has all splits of its own; leave it out")
        check_attributes(images, section.stratify)
    groups = group_patients(images, usable, near)
    held = _held_out(groups, own, usable)
    pool = usable & labelled & (own <= TRAIN) & (held[groups.patient] < 0)
    known = _known_places(groups, before, near)
    theirs = [code for code in (VAL, TEST) if SPLITS[code] in official]
    carved = _carve(
        images,
        groups,
        pool,
        {TEST: section.test if "test" in ours else 0.0, VAL: section.val if "val" in ours else 0.0},
        section,
        _known_places(groups, before, near, theirs),
    )
    group, patient = groups.group, groups.patient
    place = np.where(held[patient] >= 0, held[patient], np.where(carved[group] >= 0, carved[group], known[group]))
    if near is not None:
        found = _official_places(groups, near, own, usable)[group]
        place = np.where((near.cluster >= 0) & ~labelled & (own < 0) & (found >= 0), found, place)
    place = np.where(place >= 0, place, TRAIN)
    place = np.where(own == TRAIN, np.where(carved[group] >= 0, carved[group], TRAIN), place)
    place = np.where(own > TRAIN, own, place)
    place = np.where(before.stored >= 0, before.stored, place)
    images.numbers("split")[usable] = place[usable]
    # A labelled image without a place, whose patient the corpus holds out: it may be neither trained nor tested on.
    astray = usable & labelled & (own < 0) & (before.stored < 0) & (held[patient] >= 0)
    for split in (VAL, TEST):
        images.quarantine(
            astray & (held[patient] == split), f"its patient is in the official {SPLITS[split]} split, it is in none"
        )


def hold_out(images: ImageTable, section: SplitSection, official: frozenset[str]) -> frozenset[str]:
    """Set the official split of every row by `corpus.split.test_where`; returns the splits that are official now.

    Raises:
        CorpusError: the corpus has splits of its own, or no image is as asked for.
    """
    if section.test_where is None:
        return official
    if official:
        raise CorpusError(
            f"corpus.split.test_where: the corpus has splits of its own ({', '.join(sorted(official))}); leave it out, "
            "or take away the files that define them"
        )
    asked = np.ones(len(images), bool)
    for attribute, wanted in section.test_where.items():
        asked &= having(images, attribute, wanted, "corpus.split.test_where")
    if not (asked & images.usable).any():
        raise CorpusError("corpus.split.test_where: no image has all that it asks for")
    # A patient who stands on both sides would leak.
    ids = images.patient_ids
    held = mask(pc.is_in(ids, value_set=ids.filter(pa.array(asked))))
    images.numbers("official")[:] = np.where(held, TEST, TRAIN)
    return frozenset({"train", "test"})


def _refuse_moves(images: ImageTable, official: frozenset[str], before: EarlierSplits) -> None:
    own, stored = images.numbers("official"), before.stored
    theirs = np.array([name in official for name in SPLITS])
    same = (own == stored) | ((own == TRAIN) & ~theirs[stored])
    moved = images.usable & (stored >= 0) & (own >= 0) & ~same
    if moved.any():
        first = int(np.flatnonzero(moved)[0])
        raise CorpusError(
            f"{int(moved.sum())} images stand in another official split than when they were ingested, first "
            f"{images.display_names[first]}: {SPLITS[own[first]]}, stored as {SPLITS[stored[first]]}. "
            "Shards do not change; ingest under another corpus.name"
        )


def _known_places(
    groups: PatientGroups, before: EarlierSplits, near: NearGroups | None, without: Sequence[int] = ()
) -> np.ndarray:
    """[K] int8: split of each group that an earlier ingest gave, -1 for none.

    Args:
        without: splits that single images have of the corpus itself: those that belong with them do not get one.
    """
    counts = ~(np.isin(before.places, without) & mask(pc.starts_with(before.patients, "image:")))
    known = groups.splits_of(before.patients.filter(pa.array(counts)), before.places[counts])
    if near is not None:
        group_of = np.full(len(near.sizes), -1, np.int64)
        here = near.cluster >= 0
        group_of[near.cluster[here]] = groups.group[here]
        at, places = group_of[near.stored_cluster], near.stored_split
        counts = (at >= 0) & ~np.isin(places, without)
        np.maximum.at(known, at[counts], places[counts])
    return known


def _official_places(groups: PatientGroups, near: NearGroups, own: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """[K] int8: the official val or test split of a near duplicate in each group, test first; -1 for none."""
    found = np.full(groups.num_groups, -1, np.int8)
    for split in (VAL, TEST):
        found[groups.group[usable & (near.cluster >= 0) & (own == split)]] = split
    return found


def _held_out(groups: PatientGroups, own: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """[P] int8: the official val or test split in which a patient stands, test first; -1 for none."""
    held = np.full(groups.count, -1, np.int8)
    for split in (VAL, TEST):
        held[groups.patient[usable & (own == split)]] = split
    return held


def _carve(
    images: ImageTable,
    groups: PatientGroups,
    pool: np.ndarray,
    shares: dict[int, float],
    section: SplitSection,
    known: np.ndarray,
) -> np.ndarray:
    """[K] int8, split of each group of the pool: of each label, groups in hash order fill test, then val, then train.

    Where attributes are named, each of their strata gives its share of the label's; what rounding keeps from a stratum
    is made up by its next label.

    Args:
        pool: [N] bool, rows to share out.
        known: [K] int8, places that an earlier ingest gave.
    """
    found = np.full(groups.num_groups, -1, np.int8)
    labels = label_strata(images, groups, pool)
    kinds = attribute_strata(images, groups, pool, section.stratify or ())
    order_of = _hash_order(images, groups, pool, section.seed)
    owed: dict[tuple[int, tuple[str, ...]], float] = defaultdict(float)
    for label in sorted(set(labels.values())):
        ids = np.array(sorted((k for k, own in labels.items() if own == label), key=order_of.__getitem__))
        found[ids] = known[ids]
        waiting = int((found[ids] < 0).sum())
        filled = Counter(found[ids].tolist())
        # One patient of every class stays in train, however few there are.
        spare = waiting - (filled[TRAIN] == 0)
        members: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for group in ids.tolist():
            members[kinds[group]].append(group)
        strata = [(kind, np.array(members[kind])) for kind in sorted(members)]
        for split in (TEST, VAL):
            take = max(0, min(int(shares[split] * len(ids) + 0.5) - filled[split], spare))
            spare -= take
            free = [own[found[own] < 0] for _, own in strata]
            wanted = [
                shares[split] * len(own) - int((found[own] == split).sum()) + owed[split, kind] for kind, own in strata
            ]
            given = spread(take, wanted, [len(own) for own in free])
            for (kind, _), own, want, count in zip(strata, free, wanted, given, strict=True):
                found[own[:count]] = split
                owed[split, kind] = want - count
        found[ids[found[ids] < 0]] = TRAIN
    return found


def _hash_order(images: ImageTable, groups: PatientGroups, pool: np.ndarray, seed: int) -> dict[int, str]:
    """Group to the digest that orders it: the least digest among its members'."""
    found: dict[int, str] = {}
    rows = np.flatnonzero(pool)
    texts = images.text("split_key").take(pa.array(rows)).to_pylist()
    seen: dict[str, str] = {}
    for group, split_key in zip(groups.group[rows].tolist(), texts, strict=True):
        digest = seen.get(split_key) or seen.setdefault(split_key, digest_of(["split", seed, split_key]))
        if group not in found or digest < found[group]:
            found[group] = digest
    return found


def check_splits(images: ImageTable, classes: Sequence[str], section: SplitSection, *, alone: bool = True) -> list[str]:
    """Notes on classes that val or test lack.

    Args:
        alone: the corpus is all that is trained on; else what it lacks another may have, and is a note.

    Raises:
        CorpusError: a split is empty, or train lacks a class; gives the counts and what to do.
    """
    counts, notes = count_labels(images, classes), []
    table = "; ".join(f"{s}: " + ", ".join(f"{c} {n}" for c, n in counts[s].items()) for s in SPLITS)
    # A multilabel image with none of the classes is labelled all the same.
    rows = images.usable & images.labelled
    labelled = {name: bool((rows & (images.numbers("split") == i)).any()) for i, name in enumerate(SPLITS)}
    for split in SPLITS:
        by_choice = split != "train" and getattr(section, split) == 0
        if not labelled[split] and not by_choice:
            if alone:
                raise CorpusError(
                    f"no labelled image in the {split} split ({table}). Check corpus.split and the corpus's own "
                    "split files, or add labelled images"
                )
            notes.append(f"no labelled image in the {split} split")
    absent = [name for name, n in counts["train"].items() if n == 0]
    if absent and alone:
        raise CorpusError(
            f"no training image of class {', '.join(absent)} ({table}). Add some, leave the class out of "
            "corpus.classes and name its label under corpus.table.unlabelled, or split otherwise"
        )
    notes += [f"no image of class {name} in the train split" for name in absent if labelled["train"]]
    return notes + [
        f"no image of class {name} in the {split} split"
        for split in ("val", "test")
        for name, n in counts[split].items()
        if n == 0 and labelled[split]
    ]


def count_labels(images: ImageTable, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images by split and class; an image of a multilabel corpus counts for each of its labels."""
    usable, counts = images.usable, {}
    for number, split in enumerate(SPLITS):
        rows = usable & (images.numbers("split") == number)
        if images.labels is None:
            label = images.numbers("label")[rows]
            found = np.bincount(label[label >= 0], minlength=len(classes))
        else:
            found = (images.labels[rows] > 0).sum(axis=0)
        counts[split] = {name: int(n) for name, n in zip(classes, found, strict=True)}
    return counts
