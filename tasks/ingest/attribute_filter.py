"""Images by their attributes, as `corpus.where` and `corpus.split.test_where` name them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import FRONTAL, FRONTAL_KINDS
from tasks.ingest.image_table import ImageTable, mask
from tasks.spec import RangeSection

_SHOWN = 8


def having(images: ImageTable, attribute: str, wanted: Sequence[str] | RangeSection, key: str) -> np.ndarray:
    """[N] bool: rows whose attribute is one of the values, or lies in the range; never those of which it is not known.

    Args:
        key: of the spec, for messages.

    Raises:
        CorpusError: no usable image has one of the values, or none lies in the range.
    """
    values, usable = images.text(attribute), images.usable
    here = values.filter(pa.array(usable))
    if isinstance(wanted, RangeSection):
        found = _in_range(values, attribute, wanted)
        if not (usable & found).any():
            raise CorpusError(f"{key}: no image is left by {attribute}; the corpus has {_shown(here)}")
        return found
    known = set(pc.unique(here).to_pylist())
    meant = set(wanted)
    if attribute == "projection" and FRONTAL in meant:
        meant |= set(FRONTAL_KINDS)
        known |= {FRONTAL} if known & set(FRONTAL_KINDS) else set()
    for value in wanted:
        if value not in known:
            near = difflib.get_close_matches(value, [name for name in known if name], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise CorpusError(f"{key}: no image has {attribute} {value!r}, the corpus has {_shown(here)}{hint}")
    return mask(pc.is_in(values, value_set=pa.array(sorted(meant), pa.string())))


def _in_range(values: pa.Array, attribute: str, wanted: RangeSection) -> np.ndarray:
    inside = _inside_of_ages if attribute == "age" else _inside_of_dates
    coded = values.dictionary_encode()
    found = [bool(text) and inside(text, wanted) for text in coded.dictionary.to_pylist()]
    return np.array([*found, False], bool)[coded.indices.to_numpy()]


def _inside_of_ages(text: str, wanted: RangeSection) -> bool:
    first, last = (None if end is None else float(end) for end in (wanted.first, wanted.last))
    return (first is None or float(text) >= first) and (last is None or float(text) <= last)


def _inside_of_dates(text: str, wanted: RangeSection) -> bool:
    """2019 is all of that year; where one of two dates is known less finely, they are compared as far as both are."""
    first, last = (wanted.first or "", wanted.last or "")
    return text[: len(first)] >= first[: len(text)] and text[: len(last)] <= last[: len(text)]


def _shown(values: pa.Array) -> str:
    """Values and how many images have them, the most frequent first."""
    counts = Counter(values.to_pylist()).most_common()
    named = [f"{value or 'not known'} ({count})" for value, count in counts[:_SHOWN]]
    return ", ".join(named) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")
