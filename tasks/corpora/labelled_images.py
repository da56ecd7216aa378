"""Images of a known layout with the labels that its tables give to their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import listed, stems
from tasks.corpora.csv_table import read_lines, read_table
from tasks.corpora.mapped_labels import map_of
from tasks.corpora.resolve_labels import Attributes, Refusals, RowBuilder
from tasks.corpora.table_labels import LabelsByName
from tasks.sources import Tree
from tasks.spec import CorpusSection

OfNames = Callable[[pa.StringArray], pa.StringArray]


@dataclass(frozen=True)
class Naming:
    """What a layout's names say.

    Args:
        key: of paths: what tables call the image.
        patient: of what tables call images; default unknown.
        attributes: of what tables call images, by name.
    """

    key: OfNames = stems
    patient: OfNames | None = None
    attributes: dict[str, OfNames] = field(default_factory=dict)

    def of(self, names: pa.StringArray) -> tuple[pa.StringArray | None, Attributes]:
        """Patients and attributes."""
        return self.patient and self.patient(names), {own: of(names) for own, of in self.attributes.items()}


def add_images(
    rows: RowBuilder,
    paths: list[str],
    naming: Naming,
    given: LabelsByName | None,
    where: str,
    *,
    split: pa.StringArray | None = None,
    refused: Refusals = (),
) -> list[str]:
    """Add images, and the rows of a table that have none.

    Args:
        given: labels by what `naming.key` makes of paths; None for a folder without labels.
        where: the folder, for messages.
        split: of each image, where the table gives none.
        refused: as `RowBuilder.add`; a name that two files have is refused besides.

    Returns:
        A note on rows without an image, if there are such.
    """
    found = pa.array(paths, pa.string())
    names = naming.key(found)
    patient, attributes = naming.of(names)
    if given is None:
        rows.add(found, names, patient=patient, split=split, attributes=attributes)
        return []
    subject = given.subject(names)
    refused = [*refused, given.duplicates(subject, where)]
    rows.add(
        found,
        names,
        given.labels,
        subject,
        patient=patient,
        split=split,
        attributes=attributes,
        refused=refused,
    )
    left = given.without_image(subject)
    absent = given.names.take(pa.array(left))
    patient, attributes = naming.of(absent)
    rows.add_missing(absent, given.labels, left, patient=patient, attributes=attributes)
    if not len(left):
        return []
    name, first = given.labels.table.name, given.labels.table.where(int(given.labels.first[left[0]]))
    return [f"{len(left)} of {len(given.names)} images that {name} names are not in {where}/; first {first}"]


def split_by_lists(tree: Tree, lists: dict[str, str], names: pa.StringArray) -> tuple[pa.StringArray, Refusals]:
    """Split of each name by text files of names, "" for a name in none; and names that stand in two.

    Args:
        lists: file by split.
    """
    split = pa.repeat("", len(names))
    refused = []
    for own, file in lists.items():
        here = pc.is_in(names, value_set=stems(pa.array(read_lines(tree, file), pa.string())))
        twice = np.flatnonzero(pc.and_(here, pc.not_equal(split, "")).to_numpy(False))
        refused.append((twice, pa.repeat(f"it stands in {file} and in the list of another split", len(twice))))
        split = pc.if_else(here, own, split)
    return split, refused


def findings_of(section: CorpusSection, known: Sequence[str]) -> tuple[str, ...]:
    """Classes of a corpus that has several known findings an image: those that the section names, default all.

    Raises:
        CorpusError: another task, a class that the corpus does not have, or others than those of the label map.
    """
    own = map_of(section)
    if own is not None:
        return own.classes
    if section.task not in (None, "multilabel"):
        raise CorpusError(
            f"corpus.task {section.task}: an image of {section.adapter} has several findings; use multilabel"
        )
    unknown = [name for name in section.classes or () if name not in known]
    if unknown:
        raise CorpusError(
            f"corpus.classes: {listed(unknown)} is no finding of {section.adapter}; it has {listed(known, 99)}"
        )
    return tuple(section.classes or known)


def has_columns(tree: Tree, path: str, wanted: Sequence[str]) -> bool:
    """Whether a file is a table with these columns."""
    try:
        header = read_table(tree, path).header
    except CorpusError:
        return False
    return {name.casefold() for name in wanted} <= {name.casefold() for name in header}


def need_columns(header: list[str], wanted: list[str], shown: str) -> None:
    """CorpusError where a table has not the columns of its corpus, in any case."""
    have = {name.strip().casefold() for name in header}
    absent = [name for name in wanted if name.casefold() not in have]
    if absent:
        raise CorpusError(
            f"{shown}: no column {listed(absent)}; the columns {listed(wanted, 30)} are expected, and it has "
            f"{listed(header, 30)}"
        )
