"""Images that the spec leaves out without storing anything anew: `corpus.where`, and those that cannot be graded.

They lie in shards like all others and have their split, so that another `where` changes the catalog alone.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import FRONTAL, FRONTAL_KINDS, NO
from tasks.ingest.image_table import ImageTable, mask
from tasks.spec import CorpusSection, RangeSection

_SHOWN = 8
UNGRADABLE = "it cannot be graded"


def leave_out(images: ImageTable, corpus: CorpusSection) -> list[str]:
    """Mark usable rows that take no part; returns notes.

    Raises:
        CorpusError: a value that no image has, or nothing is left.
    """
    notes = []
    if corpus.ungradable == "leave_out":
        rows = images.usable & images.where("gradable", NO) & ~images.labelled
        images.leave_out(rows, UNGRADABLE)
        if rows.any():
            notes.append(f"{int(rows.sum())} images cannot be graded and teach nobody (corpus.ungradable)")
    for attribute, wanted in (corpus.where or {}).items():
        usable = images.usable
        values = images.text(attribute)
        taken = _in_range(values, wanted) if isinstance(wanted, RangeSection) else _among(values, wanted)
        if isinstance(wanted, list):
            _check_values(attribute, wanted, values.filter(pa.array(usable)))
        if not (usable & taken).any():
            here = _shown(values.filter(pa.array(usable)))
            raise CorpusError(f"corpus.where: no image is left by {attribute}; the corpus has {here}")
        rows = usable & ~taken
        images.leave_out(rows, f"left out by corpus.where: {attribute}")
        unknown = int((rows & images.where(attribute, "")).sum())
        more = f", of them {unknown} whose {attribute} is not known" if unknown else ""
        notes.append(f"{int(rows.sum())} images are left out by corpus.where: {attribute}{more}")
    return notes


def _among(values: pa.Array, wanted: Sequence[str]) -> np.ndarray:
    """[N] bool; `frontal` is every frontal projection."""
    meant = {*wanted, *(FRONTAL_KINDS if FRONTAL in wanted else ())}
    return mask(pc.is_in(values, value_set=pa.array(sorted(meant), pa.string())))


def _in_range(values: pa.Array, wanted: RangeSection) -> np.ndarray:
    """[N] bool: known, and from the first to the last, both included; numbers where the ends are."""
    number = not isinstance(wanted.first, str) and not isinstance(wanted.last, str)
    found = np.zeros(len(values), bool)
    coded = values.dictionary_encode()
    texts = coded.dictionary.to_pylist()
    inside = np.array([bool(text) and _inside(text, wanted, number) for text in texts], bool)
    if len(texts):
        found = inside[coded.indices.to_numpy()]
    return found


def _inside(text: str, wanted: RangeSection, number: bool) -> bool:
    if number:
        value = float(text)
        return (wanted.first is None or value >= float(wanted.first)) and (
            wanted.last is None or value <= float(wanted.last)
        )
    # `2019` means the whole year: a date that is known less finely is compared as far as both are known.
    first, last = str(wanted.first or ""), str(wanted.last or "")
    return text[: len(first)] >= first[: len(text)] and (not last or text[: len(last)] <= last[: len(text)])


def _check_values(attribute: str, wanted: Sequence[str], values: pa.Array) -> None:
    known = set(pc.unique(values).to_pylist()) | ({FRONTAL} if attribute == "projection" else set())
    for value in wanted:
        if value not in known:
            near = difflib.get_close_matches(value, [name for name in known if name], n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise CorpusError(
                f"corpus.where: no image has {attribute} {value!r}, the corpus has {_shown(values)}{meant}"
            )


def _shown(values: pa.Array) -> str:
    """Values and how many images have them, the most frequent first."""
    counts = Counter(values.to_pylist()).most_common()
    named = [f"{value or 'not known'} ({count})" for value, count in counts[:_SHOWN]]
    return ", ".join(named) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")
