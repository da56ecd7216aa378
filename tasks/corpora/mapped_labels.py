"""Labels of a corpus through its label map: what the map does not cover is an error, not a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import listed
from tasks.corpora.coding import Coding, cell_labels, folded
from tasks.corpora.csv_table import CsvTable, coded, joined, translated
from tasks.corpora.label_maps import MAPS, NOT_REFERABLE, REFERABLE, LabelMap
from tasks.spec import CorpusSection

_BETWEEN = "\x1f"


def map_of(section: CorpusSection) -> LabelMap | None:
    """The map that the section names; None where it names none.

    Raises:
        CorpusError: the task or the classes of the section are others than those of the map.
    """
    if section.label_map is None:
        return None
    name, found = section.label_map, MAPS[section.adapter][section.label_map]
    if section.task not in (None, found.task):
        raise CorpusError(f"corpus.task {section.task}: the map {name!r} makes {found.task}; leave it out")
    if section.classes is not None and tuple(section.classes) != found.classes:
        raise CorpusError(f"corpus.classes: the map {name!r} makes {', '.join(found.classes)}; leave it out")
    return found


def grade_coding(section: CorpusSection, grades: tuple[str, ...]) -> Coding:
    """Coding of a corpus whose labels are grades: ordinal as they are, or through `corpus.label_map`.

    Raises:
        CorpusError: the task does not fit; as `map_of`.
    """
    found = map_of(section)
    if found is not None:
        return Coding(found.task, found.classes)
    task = section.task or "ordinal"
    if task == "multilabel":
        raise CorpusError("corpus.task multilabel: an image has one grade; use ordinal or single")
    return Coding(task, tuple(section.classes or grades), numbered=True)


def mapped(
    section: CorpusSection, table: CsvTable, labels: pa.StringArray, oedema: str = ""
) -> tuple[pa.StringArray, list[str]]:
    """Labels of a table's rows, one each, through the map of the section; as they are where it names none.

    A label that the map leaves out becomes blank, and so does what `corpus.outside: unlabelled` is for; `leave_out`
    keeps the text, which is no class.

    Args:
        oedema: column of the grade of macular oedema, read where the map asks for it.

    Returns:
        Class or "" of each row, and notes.

    Raises:
        CorpusError: the map does not cover a label and `corpus.outside` is `refuse`, or there is no column `oedema`.
    """
    own = map_of(section)
    if own is None:
        return labels, []
    labels, notes = covered(section, table, labels, lambda text: bool(text) and not own.covers(text))
    left = translated(labels, lambda text: text if own.leaves_out(text) else None)
    if left.null_count < len(left):
        names = sorted(coded(left.drop_null()).texts.to_pylist())
        notes.append(
            f"{len(left) - left.null_count} rows of {table.name} have labels that corpus.label_map "
            f"{section.label_map} leaves out ({listed(names)}); their images are unlabelled"
        )
    classes = translated(labels, lambda text: "" if own.leaves_out(text) else own.of(text))
    if own.oedema is None:
        return classes, notes
    referable = own.oedema
    grades, more = covered(
        *(section, table, table.texts(oedema), lambda text: bool(text) and folded(text) not in referable),
        f" of column {oedema!r}",
    )
    found, others = _with_oedema(classes, grades, referable, table)
    return found, [*notes, *more, *others]


def _with_oedema(
    classes: pa.StringArray, grades: pa.StringArray, referable: Mapping[str, bool], table: CsvTable
) -> tuple[pa.StringArray, list[str]]:
    """Referable by either; not referable where both say so, unlabelled where the one that could say so is blank."""

    def of(pair: str) -> str:
        own, grade = pair.split(_BETWEEN)
        if own not in ("", NOT_REFERABLE, REFERABLE) or own == REFERABLE:
            return own
        if grade and folded(grade) not in referable:
            return grade
        if grade and referable[folded(grade)]:
            return REFERABLE
        return own if grade else ""

    found = translated(joined(classes, _BETWEEN, grades), of)
    open_ = pc.sum(pc.and_(pc.equal(classes, NOT_REFERABLE), pc.equal(found, ""))).as_py() or 0
    if not open_:
        return found, []
    return found, [
        f"{open_} rows of {table.name} have a grade that is not referable and none of macular oedema; their images "
        "are unlabelled"
    ]


def covered_findings(
    section: CorpusSection, table: CsvTable, cells: pa.StringArray, separator: str, negative: str
) -> tuple[pa.StringArray, list[str]]:
    """Cells of several findings an image, checked as `mapped` checks labels of one; as they are without a map."""
    own = map_of(section)
    if own is None:
        return cells, []

    def unknown(cell: str) -> list[str]:
        return [name for name in cell_labels(cell, separator) if name not in ("", negative) and not own.covers(name)]

    return covered(section, table, cells, unknown)


def covered(
    section: CorpusSection,
    table: CsvTable,
    texts: pa.StringArray,
    unknown: Callable[[str], bool | list[str]],
    what: str = "",
) -> tuple[pa.StringArray, list[str]]:
    """Texts of which the map of the section covers all, or the error, or the note, that says which it does not.

    Args:
        texts: of each row of the table.
        unknown: whether a text is not covered; or which values in it are not.
        what: which texts they are, for the message.

    Returns:
        The texts: those that are not covered as they are (`leave_out`), or blank (`unlabelled`).

    Raises:
        CorpusError: a text is not covered, and `corpus.outside` does not say what that means.
    """
    values: dict[str, list[str]] = {}
    for text in coded(texts).texts.to_pylist():
        found = unknown(text)
        if found:
            values[text] = [text] if found is True else list(dict.fromkeys(found))
    if not values:
        return texts, []
    here = pc.is_in(texts, value_set=pa.array(list(values)))
    shown = _shown(table, texts, np.flatnonzero(here.to_numpy(False)), values)
    if section.outside in (None, "refuse"):
        raise CorpusError(
            f"corpus.label_map {section.label_map} does not cover the label{what} {shown}; correct the table, or set "
            "corpus.outside: unlabelled (these images join the unlabelled pool, where corpus.corrections may label "
            "them) or leave_out (they are quarantined)"
        )
    if section.outside == "leave_out":
        return texts, []
    note = (
        f"{pc.sum(here).as_py()} rows have labels that corpus.label_map {section.label_map} does not cover{what}: "
        f"{shown}; their labels are unknown"
    )
    return pc.if_else(here, "", texts), [note]


def _shown(table: CsvTable, texts: pa.StringArray, rows: np.ndarray, values: Mapping[str, list[str]]) -> str:
    """The values in these rows, the most frequent first: each with its count and its first row.

    Args:
        values: in each text.
    """
    counts, first = Counter[str](), dict[str, int]()
    for row, text in zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True):
        for value in values[text]:
            counts[value] += 1
            first.setdefault(value, row)
    return listed(
        (
            f"{value!r} ({count} row{'s' * (count > 1)}, first {table.where(first[value])})"
            for value, count in counts.most_common()
        ),
        5,
    )
