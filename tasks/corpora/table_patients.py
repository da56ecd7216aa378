"""Patients of a table's images: by a column, or by a pattern on their names or paths; and what stands for nobody."""

from __future__ import annotations

import re
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import stems
from tasks.corpora.csv_table import coded, translated
from tasks.corpora.scan import BATCH
from tasks.corpora.table_classes import usual_spellings

NOBODY = frozenset(
    (
        *("nan", "na", "n/a", "none", "null", "<na>", "nil", "unknown", "unk", "missing", "not available", "tbd"),
        *("anonymous", "anonymized", "anonymised", "anon", "no id", "noid"),
        *("-", "--", "---", "?", "??", ".", "#n/a", "#ref!"),
    )
)
"""Texts that name no patient where more than one image has them, casefolded."""

_ZERO = re.compile(r"0+(\.0+)?")
_MANY = 10  # images, and so many times the median of the other patients, above which 0 is nobody
_SOME = 3  # times that median, where it is a tenth of all images; and above which a fifth of them is told
_KEY = "corpus.table.patient_pattern"


def known_patients(texts: pa.StringArray) -> tuple[pa.StringArray, list[str]]:
    """Patients, "" where a text names nobody, each in one spelling; and notes on what was taken for what."""
    texts, respelled = _one_spelling(texts)
    found = coded(texts)
    names = found.texts.to_pylist()
    counts = dict(zip(names, np.bincount(found.codes, minlength=len(names)).tolist(), strict=True))
    usual = median([count for name, count in counts.items() if name and not _ZERO.fullmatch(name)] or [1])
    known = sum(count for name, count in counts.items() if name)

    def is_nobody(name: str, count: int) -> bool:
        if name.casefold() in NOBODY:
            return count > 1
        often = count > _MANY * usual or (count > _SOME * usual and count >= known / 10)
        return _ZERO.fullmatch(name) is not None and count > _MANY and often

    nobody = {name: count for name, count in counts.items() if is_nobody(name, count)}
    many = [
        f"patient {name!r} stands for {count} of {known} images that have a patient; if it is nobody, leave its cells "
        "blank"
        for name, count in sorted(counts.items())
        if name and name not in nobody and count > max(_MANY, _SOME * usual, known / 5) and len(counts) > 2
    ]
    if not nobody:
        return texts, respelled + many
    notes = (
        respelled
        + many
        + [
            f"patient {name!r} stands for nobody: {count} rows, each image counts as a patient of its own"
            for name, count in sorted(nobody.items())
        ]
    )
    return translated(texts, lambda text: "" if text in nobody else text), notes


def _one_spelling(texts: pa.StringArray) -> tuple[pa.StringArray, list[str]]:
    """All spellings of one patient as the most frequent one: two of them in two splits would be a leak unseen."""
    found = coded(texts)
    names = found.texts.to_pylist()
    counts = dict(zip(names, np.bincount(found.codes, minlength=len(names)).tolist(), strict=True))
    usual = usual_spellings(counts)
    if not usual:
        return texts, []
    first, second = list(usual)[:2]
    note = (
        f"{len(set(usual.values()))} patients are spelled in several ways (case, blanks, form) and are one each; first "
        f"{first!r} and {second!r}"
    )
    return translated(texts, lambda text: usual.get(text, text)), [note]


def patients_by_pattern(
    pattern: str | None, images: pa.StringArray, absent: pa.StringArray
) -> tuple[list[pa.StringArray | None], list[str]]:
    """Patients of images and of names without one, "" for none, and notes; None throughout without a pattern.

    The pattern is matched on the image's name without its suffix; where it matches no name, on the path.

    Args:
        images: paths.
        absent: as the table has them.

    Raises:
        CorpusError: the pattern is no regular expression with a group, or matches nothing.
    """
    if pattern is None:
        return [None, None], []
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"{_KEY} {pattern!r}: {error}") from None
    if compiled.groups < 1:
        raise CorpusError(f"{_KEY} {pattern!r}: needs a group for the patient")
    for names in ((stems(images), stems(absent)), (images, absent)):
        found = [_matched(compiled, own) for own in names]
        if any(pc.any(pc.not_equal(own, "")).as_py() for own in found):
            both, notes = known_patients(pa.concat_arrays(found))
            return [both.slice(0, len(images)), both.slice(len(images))], notes
    raise CorpusError(f"{_KEY} {pattern!r} matches no image's name or path, for instance not {images[0].as_py()!r}")


def _matched(pattern: re.Pattern[str], names: pa.StringArray) -> pa.StringArray:
    """First group of the pattern in each name, "" for none."""
    parts = [pa.array([], pa.string())]
    for start in range(0, len(names), BATCH):
        matches = (pattern.search(name) for name in names.slice(start, BATCH).to_pylist())
        parts.append(pa.array([(match.group(1) or "") if match else "" for match in matches], pa.string()))
    return pa.concat_arrays(parts)
