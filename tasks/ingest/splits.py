"""Splits: official ones as they are, ours by patient, stratified, the same every time.

A patient never straddles splits of our making. Patients that an earlier ingest assigned stay where they
are; new ones fill what is then missing of the wanted shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from infra.digest import digest_of
from infra.errors import CorpusError
from tasks.catalog import SPLITS
from tasks.ingest.entries import Entry
from tasks.spec import SplitSection


def assign_splits(
    entries: Iterable[Entry],
    section: SplitSection,
    official: frozenset[str],
    *,
    stored: Mapping[str, str],
    people: Mapping[str, str],
) -> None:
    """Set `split` of every usable entry; may quarantine some.

    Splits that the corpus defines itself (`official`) are taken as they stand. Those that it does not
    define are carved out of its train split, or out of everything, by patient.

    Args:
        entries: all rows of the corpus.
        section: shares and seed.
        official: splits that the corpus defines.
        stored: key to split of images that lie in shards already; they stay.
        people: person to split of an earlier ingest.

    Raises:
        CorpusError: the official split of a stored image has changed.
    """
    usable = [e for e in entries if e.usable]
    moved = [e for e in usable if e.key in stored and e.row.split and not _same(e, stored[e.key], official)]
    if moved:
        raise CorpusError(
            f"{len(moved)} images stand in another official split than when they were ingested, first "
            f"{moved[0].shown}: {moved[0].row.split}, stored as {stored[moved[0].key]}. Shards do not change; "
            "ingest under another corpus.name"
        )
    held_out = {e.person: e.row.split for e in usable if e.row.split in ("val", "test")}
    ours = [s for s in ("test", "val") if s not in official]
    if not ours and "train" in official:
        for entry in usable:
            if entry.row.labelled and not entry.row.split and entry.key not in stored:
                entry.refuse("it has a label, but no place in the official split")
    pool = [e for e in usable if e.usable and e.row.labelled and e.row.split in ("", "train")]
    carved = _carve(
        [e for e in pool if e.person not in held_out],
        {"test": section.test if "test" in ours else 0.0, "val": section.val if "val" in ours else 0.0},
        section.seed,
        people,
    )
    for entry in usable:
        if not entry.usable:
            continue
        if entry.key in stored:
            entry.split = stored[entry.key]
        elif entry.row.split in ("val", "test"):
            entry.split = entry.row.split
        elif entry.row.split == "train":
            entry.split = carved.get(entry.person, "train")
        elif entry.person in held_out and entry.row.labelled:
            entry.refuse(f"its patient is in the official {held_out[entry.person]} split, it is in none")
        else:
            entry.split = held_out.get(entry.person) or carved.get(entry.person) or people.get(entry.person) or "train"


def _same(entry: Entry, split: str, official: frozenset[str]) -> bool:
    return entry.row.split == split or (entry.row.split == "train" and split not in official)


def _carve(pool: Sequence[Entry], shares: Mapping[str, float], seed: int, people: Mapping[str, str]) -> dict[str, str]:
    """Person to split: within each stratum, persons in hash order fill test, then val, then train."""
    strata = _strata(pool)
    lots = {e.person: digest_of(["split", seed, e.lot]) for e in pool}
    found = {person: people[person] for person in strata if person in people}
    total = Counter(strata.values())
    filled = Counter((strata[person], split) for person, split in found.items())
    waiting: dict[int, list[str]] = {}
    for person in sorted(strata, key=lambda p: lots[p]):
        if person not in found:
            waiting.setdefault(strata[person], []).append(person)
    for stratum, persons in sorted(waiting.items()):
        # One patient of every class stays in train, however few there are.
        spare = len(persons) - (filled[stratum, "train"] == 0)
        queue = iter(persons)
        for split in ("test", "val"):
            wanted = int(shares[split] * total[stratum] + 0.5) - filled[stratum, split]
            take = max(0, min(wanted, spare))
            spare -= take
            for _ in range(take):
                found[next(queue)] = split
        for person in queue:
            found[person] = "train"
    return found


def _strata(pool: Sequence[Entry]) -> dict[str, int]:
    """Person to the rarest of its labels; -1 where a multilabel patient has none of them."""
    has: dict[str, set[int]] = {}
    for entry in pool:
        row = entry.row
        labels = {row.label} if row.labels is None else {i for i, v in enumerate(row.labels) if v > 0}
        has.setdefault(entry.person, set()).update(labels)
    common = Counter(label for labels in has.values() for label in labels)
    return {person: min(labels, key=lambda x: (common[x], x)) if labels else -1 for person, labels in has.items()}


def check_splits(entries: Iterable[Entry], classes: Sequence[str], section: SplitSection) -> list[str]:
    """Notes on classes that val or test lack.

    Raises:
        CorpusError: a split is empty, or train lacks a class; gives the counts and what to do.
    """
    counts = count_labels(entries, classes)
    table = "; ".join(f"{s}: " + ", ".join(f"{c} {n}" for c, n in counts[s].items()) for s in SPLITS)
    labelled = {split: any(counts[split].values()) for split in SPLITS}
    for entry in entries:
        # A multilabel image with none of the classes is labelled all the same.
        if entry.usable and entry.split and entry.row.labelled:
            labelled[entry.split] = True
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


def count_labels(entries: Iterable[Entry], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images by split and class; an image of a multilabel corpus counts for each of its labels."""
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    for entry in entries:
        if not entry.usable or not entry.split:
            continue
        row = entry.row
        own = [row.label] if row.labels is None else [i for i, v in enumerate(row.labels) if v > 0]
        for number in own:
            if number >= 0:
                counts[entry.split][classes[number]] += 1
    return counts


def mark_leaks(entries: Iterable[Entry]) -> int:
    """Set `leak` on val and test rows whose patient or bytes stand in train too; returns how many."""
    usable = [e for e in entries if e.usable]
    train = [e for e in usable if e.split == "train"]
    patients = {e.patient for e in train if e.patient}
    digests = {e.sha for e in train if e.sha}
    for entry in usable:
        entry.leak = entry.split != "train" and (entry.patient in patients or entry.sha in digests)
    return sum(e.leak for e in usable)
