"""Label maps: from the scale of a corpus to classes that several corpora share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from infra.errors import CorpusError
from tasks.corpora.coding import Coding, folded
from tasks.corpora.csv_table import translated
from tasks.spec import CorpusSection

ICDR, MESSIDOR = "ICDR", "Messidor"
"""Scales of diabetic retinopathy: the international clinical one, grades 0 to 4, and Messidor's, 0 to 3."""


@dataclass(frozen=True)
class LabelMap:
    """Classes, and what label of each scale is which.

    Args:
        labels: by scale, class name by label.
    """

    task: str
    classes: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str]]


_NO, _YES = "not referable", "referable"
MAPS: dict[str, LabelMap] = {
    # Referable: moderate non-proliferative retinopathy or worse (Gulshan et al. 2016, JAMA 316(22)), without oedema.
    "referable": LabelMap(
        "single",
        (_NO, _YES),
        {
            ICDR: {"0": _NO, "1": _NO, "2": _YES, "3": _YES, "4": _YES},
            MESSIDOR: {"0": _NO, "1": _NO, "2": _YES, "3": _YES},
        },
    ),
}


def grade_coding(section: CorpusSection, scale: str, grades: tuple[str, ...]) -> Coding:
    """Coding of a corpus whose labels are grades of a scale: ordinal as they are, or through `corpus.label_map`.

    Raises:
        CorpusError: the task does not fit, no such map, or the map knows nothing of the scale.
    """
    if section.label_map is None:
        task = section.task or "ordinal"
        if task == "multilabel":
            raise CorpusError("corpus.task multilabel: an image has one grade; use ordinal or single")
        return Coding(task, tuple(section.classes or grades), numbered=True)
    if section.label_map not in MAPS:
        raise CorpusError(f"corpus.label_map {section.label_map!r}: no such map; there are {', '.join(MAPS)}")
    found = MAPS[section.label_map]
    if scale not in found.labels:
        raise CorpusError(
            f"corpus.label_map {section.label_map!r} knows nothing of the scale {scale}; it reads "
            f"{', '.join(found.labels)}"
        )
    if section.task not in (None, found.task):
        raise CorpusError(f"corpus.task {section.task}: the map {section.label_map!r} makes {found.task}; leave it out")
    if section.classes is not None and tuple(section.classes) != found.classes:
        raise CorpusError(
            f"corpus.classes: the map {section.label_map!r} makes {', '.join(found.classes)}; leave it out"
        )
    return Coding(found.task, found.classes)


def mapped(section: CorpusSection, scale: str, labels: pa.StringArray) -> pa.StringArray:
    """Labels through the map of the section; one that the map does not cover stays as it is, and is no class."""
    if section.label_map is None:
        return labels
    own = MAPS[section.label_map].labels[scale]
    return translated(labels, lambda text: own.get(folded(text), text))
