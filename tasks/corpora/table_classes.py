"""The classes of a table: as the spec names them, or as its labels are, where these can be nothing else."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

import pyarrow as pa

from infra.errors import CorpusError
from tasks.corpora.coding import Coding, cell_labels, folded
from tasks.spec import CorpusSection, TableSection

NOT_LABELS = frozenset(
    (
        *("nan", "na", "n/a", "null", "<na>", "-nan", "nat"),
        *("#n/a n/a", "#n/a", "#na", "#ref!", "#value!", "#div/0!", "#name?", "#null!", "#num!", "#spill!", "#calc!"),
        *("#nv", "#bezug!", "#wert!", "#getting_data"),
    )
)
"""Texts that spreadsheets and data frames write where there is no value, casefolded."""

_SHOWN = 5


def coding_of(section: CorpusSection, table: TableSection, task: str, texts: set[str]) -> Coding:
    """How the labels of a table become class numbers.

    Args:
        texts: the label texts of all images.

    Raises:
        CorpusError: without `corpus.classes`, and the labels leave open what the classes are.
    """
    columns = not isinstance(table.label, str)

    def coding(classes: tuple[str, ...]) -> Coding:
        return Coding(
            task,
            classes,
            separator=table.label_separator,
            negative=table.negative,
            unlabelled=frozenset(table.unlabelled),
            columns=columns,
        )

    if columns:
        return coding(tuple(section.classes or table.label))
    if section.classes:
        return coding(tuple(section.classes))
    names = {name for text in texts for name in coding(()).names(text)}
    _check(names, task)
    return coding(tuple(in_order(names)))


def in_order(labels: Iterable[str]) -> list[str]:
    """Label texts by number when all of them are numbers, else by text."""
    labels = list(labels)
    try:
        return sorted(labels, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(labels)


def respelled(coding: Coding, texts: Iterable[str]) -> list[str]:
    """Notes on labels that are another spelling of their class, and on classes that differ in spelling alone."""
    alike = alike_names(coding.classes)
    notes = [f"classes {_shown(own)} are spellings of one word; each stays a class" for own in alike]
    found = sorted({name for text in texts for name in coding.names(text) if coding.respells(name)})
    if found:
        first = f"{found[0]!r} for {coding.classes[coding.number(found[0])]!r}"
        notes.append(f"{len(found)} labels are other spellings of their class (case, blanks, form); first {first}")
    return notes


def alike_names(names: Iterable[str]) -> list[list[str]]:
    """Names that are spellings of one word, together; those alone that have several."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        spellings[folded(name)].append(name)
    return [own for own in spellings.values() if len(own) > 1]


def usual_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """The most frequent spelling of each name that is written in several ways.

    Args:
        counts: how often each name stands.
    """
    return {name: max(own, key=lambda each: counts[each]) for own in alike_names(counts) for name in own}


def united(labels: pa.StringArray, subject: list[int], separator: str) -> tuple[pa.StringArray, int]:
    """Labels of rows about the same image, united, and how many images had several that differ.

    Args:
        subject: of each row; below 0 for a row that says nothing.
    """
    texts = labels.to_pylist()
    rows: dict[int, list[int]] = defaultdict(list)
    for row, own in enumerate(subject):
        if own >= 0:
            rows[own].append(row)
    count = 0
    for own_rows in rows.values():
        if len({texts[row] for row in own_rows}) > 1:
            count += 1
            names = dict.fromkeys(name for row in own_rows for name in cell_labels(texts[row], separator))
            for row in own_rows:
                texts[row] = separator.join(names)
    return (pa.array(texts, pa.string()), count) if count else (labels, 0)


def _check(names: set[str], task: str) -> None:
    """CorpusError where the labels cannot be taken for classes as they are."""
    empty = sorted(name for name in names if name.casefold() in NOT_LABELS)
    if empty:
        raise CorpusError(
            f"labels {_shown(empty)} stand for no value; write corpus.table.unlabelled: {json.dumps(empty)}, or "
            "correct the table"
        )
    numbers = [_number(name) for name in names]
    if all(number is not None for number in numbers) and any(number < 0 for number in numbers if number is not None):
        below = sorted(name for name in names if (_number(name) or 0) < 0)
        raise CorpusError(
            f"labels {_shown(below)} are below 0: classes, or a sign for not known? Write corpus.table.unlabelled: "
            f"{json.dumps(below)}, or name all in corpus.classes"
        )
    several = alike_names(names)
    if several:
        raise CorpusError(
            f"labels {_shown(several[0])} are spellings of one word (case, blanks, form); name the classes in "
            "corpus.classes, one spelling each: all spellings then count as that class"
        )
    listed_cells = sorted(name for name in names if name.startswith("[") and name.endswith("]"))
    if listed_cells and task != "multilabel":
        raise CorpusError(
            f"label {listed_cells[0]!r} is a list; set corpus.task: multilabel, or give one label an image"
        )
    if task == "ordinal" and any(number is None for number in numbers):
        words = sorted(name for name in names if _number(name) is None)
        raise CorpusError(
            f"corpus.task: ordinal needs the order of the grades, and {_shown(words)} are words; write them in "
            "corpus.classes, lowest first"
        )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
