"""Any CSV beside a folder of images; the spec names the columns."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, need, stems, unpack_hint, within
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import CsvTable, coded, joined, outside, read_lines, read_table, translated
from tasks.corpora.path_matching import PathMatcher
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import BATCH, Scan
from tasks.corpora.table_labels import TableLabels
from tasks.data.catalog import SPLITS
from tasks.sources import Tree
from tasks.spec import CorpusSection, TableSection

WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


# Shorter side in the shards: lesions of the retina are small, so fundus images train at 512 from 1024.
FUNDUS_SIZE, OTHER_SIZE = 1024, 512
CROPPED = ("fundus", "endoscopy")  # their borders are black


class TableCorpus(ExistingCorpus):
    """Adapter `table`."""

    name = "table"

    def describe(self) -> str:
        return (
            "any CSV beside a folder of images, as corpus.table says\n"
            "  csv, images: the file and the folder, relative to corpus.root (folders below are searched)\n"
            "  image, label: columns; an image is named with or without folder and extension\n"
            "  patient: a column, or patient_pattern: a regular expression with one group on the image's name\n"
            "  split: a column with train, val or test, or split_lists: a text file of image names for each\n"
            "  unlabelled: label values that mean unlabelled, beside blank\n"
            "  multi-label (corpus.task: multilabel): label_separator, and negative for none of the classes\n"
            "Images without a row form the unlabelled pool."
        )

    def fits(self, tree: Tree) -> str | None:
        tables = [path for path in tree.with_suffix(".csv") if "/" not in path]
        if tables and tree.images():
            return f"{tables[0]} beside images"
        return None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        table = section.table
        assert table is not None  # the spec is checked for it
        tree = _place(tree, table)
        sheet = read_table(tree, table.csv, table.delimiter)
        images = pa.array(tree.images(table.images), pa.string())
        if not len(images):
            raise CorpusError(
                f"{tree.show(table.images)}: no image in it (looked for .jpg, .png, .tif, .bmp, .webp)"
                + unpack_hint(tree)
            )
        matcher = PathMatcher(images)
        labels, absent, several = _labels(sheet, table, matcher)
        task = section.task or "single"
        subject = np.arange(len(images))
        coding = _coding(section, table, task, labels.label_texts(subject))
        names = stems(images), stems(absent)
        patients = _patients(table, *names)
        listed, refused, notes = _lists(tree, table, matcher)
        rows = RowBuilder(coding)
        rows.add(images, names[0], labels, subject, patient=patients[0], split=listed, refused=[several, refused])
        rows.add_missing(names[1], labels, np.arange(len(images), len(images) + len(absent)), patient=patients[1])
        found, more = rows.finish()
        unknown = pc.sum(pc.and_(pc.equal(found.table["patient"], ""), pc.is_valid(found.table["path"]))).as_py()
        if (table.patient or table.patient_pattern) and unknown:
            more.append(f"{unknown} images have no patient; each counts as a patient of its own")
        official = frozenset(table.split_lists) | set(pc.unique(found.table["split"]).to_pylist()) - {""}
        modality = section.modality or "other"
        size = FUNDUS_SIZE if modality == "fundus" else OTHER_SIZE
        crop = modality if modality in CROPPED else "none"
        notes += more + tree.source.notes
        return Scan(task, coding.classes, modality, size, official, found, notes, crop=crop, below=tree.below)


def _place(tree: Tree, table: TableSection) -> Tree:
    """The folder that holds the table and the images."""
    images = [] if table.images.strip("./") == "" else [table.images]
    inside = [] if outside(tree, table.csv) else [table.csv]
    return within(tree, *inside, *images) or need(tree, TableCorpus.name, *images)


def _labels(
    sheet: CsvTable, table: TableSection, matcher: PathMatcher
) -> tuple[TableLabels, pa.StringArray, tuple[np.ndarray, pa.StringArray]]:
    """Labels of images, by position, and after these of names without one; these names; images to refuse."""
    name, label = sheet.texts(table.image), sheet.texts(table.label)
    patient = sheet.texts(table.patient) if table.patient else None
    split_text = sheet.texts(table.split) if table.split else pa.repeat("", len(sheet))
    split = translated(split_text, _split)
    wrong = pc.index(pc.or_(pc.equal(name, ""), split.is_null()), True).as_py()
    if wrong >= 0:
        where = sheet.where(wrong)
        if not name[wrong].as_py():
            raise CorpusError(f"{where}: column {table.image!r} is blank; an image's name is needed there")
        raise CorpusError(f"{where}: split is {split_text[wrong].as_py()!r}; train, val or test is expected")
    found = matcher.find(name)
    subject = found.single()
    rows = np.flatnonzero(found.count == 0)
    absent = coded(name.take(pa.array(rows)))
    subject[rows] = absent.codes + len(matcher.paths)
    labels = TableLabels(
        sheet,
        label,
        subject,
        len(matcher.paths) + len(absent.texts),
        patient=patient,
        split=split if table.split else None,
    )
    row, several = found.pairs(np.flatnonzero(found.count > 1))
    reasons = joined(
        sheet.places(row),
        " names ",
        pa.array(found.count[row]).cast(pa.string()),
        f" files; give the folder too in column {table.image!r}",
    )
    return labels, absent.texts, (several, reasons)


def _coding(section: CorpusSection, table: TableSection, task: str, labels: set[str]) -> Coding:
    def coding(classes: tuple[str, ...]) -> Coding:
        unlabelled = frozenset(table.unlabelled)
        return Coding(
            task,
            classes,
            separator=table.label_separator,
            negative=table.negative,
            unlabelled=unlabelled,
        )

    if section.classes:
        return coding(tuple(section.classes))
    found = coding(())
    return coding(tuple(in_order({name for text in labels for name in found.names(text)})))


def in_order(labels: set[str]) -> list[str]:
    """Label texts by number when all of them are numbers, else by text."""
    try:
        return sorted(labels, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(labels)


def _patients(table: TableSection, images: pa.StringArray, absent: pa.StringArray) -> list[pa.StringArray | None]:
    """Patients by the names of images, with and without a file; blank leaves it to the patient column."""
    if table.patient_pattern is None:
        return [None, None]
    try:
        pattern = re.compile(table.patient_pattern)
    except re.error as error:
        raise CorpusError(f"corpus.table.patient_pattern {table.patient_pattern!r}: {error}") from None
    if pattern.groups < 1:
        raise CorpusError(f"corpus.table.patient_pattern {table.patient_pattern!r}: needs a group for the patient")
    found = [_matched(pattern, names) for names in (images, absent)]
    if not any(pc.any(pc.not_equal(own, "")).as_py() for own in found):
        raise CorpusError(
            f"corpus.table.patient_pattern {table.patient_pattern!r} matches no image's name, "
            f"for instance not {images[0].as_py()!r}"
        )
    return found


def _matched(pattern: re.Pattern[str], names: pa.StringArray) -> pa.StringArray:
    """First group of the pattern in each name, "" for none."""
    parts = [pa.array([], pa.string())]
    for start in range(0, len(names), BATCH):
        matches = (pattern.search(name) for name in names.slice(start, BATCH).to_pylist())
        parts.append(pa.array([(match.group(1) or "") if match else "" for match in matches], pa.string()))
    return pa.concat_arrays(parts)


def _lists(
    tree: Tree, table: TableSection, matcher: PathMatcher
) -> tuple[pa.StringArray | None, tuple[np.ndarray, pa.StringArray], list[str]]:
    """Split of each image by the lists; images that stand in several, and why they are refused; notes."""
    notes: list[str] = []
    # Which of the lists an image stands in, as bits.
    listed = np.zeros(len(matcher.paths), np.int8)
    splits = sorted(table.split_lists)
    for bit, split in enumerate(splits):
        if split not in SPLITS:
            raise CorpusError(f"corpus.table.split_lists: {split!r} is no split; use train, val or test")
        file = table.split_lists[split]
        found = matcher.find(pa.array(read_lines(tree, file), pa.string()))
        _, images = found.pairs(np.flatnonzero(found.count))
        listed[images] |= 1 << bit
        absent = int((found.count == 0).sum())
        if absent:
            notes.append(f"{absent} of {len(found.count)} names in {file} have no image here")
    own = [[split for bit, split in enumerate(splits) if bits >> bit & 1] for bits in range(1 << len(splits))]
    names = pa.array([several[0] if len(several) == 1 else "" for several in own], pa.string())
    reasons = pa.array([f"it stands in the lists of {' and '.join(several)}" for several in own], pa.string())
    refused = np.flatnonzero(np.bitwise_count(listed) > 1)
    return names.take(pa.array(listed)), (refused, reasons.take(pa.array(listed[refused]))), notes


def _split(text: str) -> str | None:
    """The split that a word means; None when it means none."""
    for split, words in WORDS.items():
        if text.casefold() in words:
            return split
    return None if text else ""
