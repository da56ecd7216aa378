"""Any CSV beside a folder of images; the spec names the columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of
from tasks.corpora.base import ExistingCorpus, need, stems, unpack_hint, within
from tasks.corpora.coding import COLUMNS
from tasks.corpora.csv_table import CsvTable, coded, joined, outside, read_lines, read_table, translated
from tasks.corpora.path_matching import PathMatcher
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.spellings import header_missing, nothing_found
from tasks.corpora.table_classes import coding_of, respelled, united
from tasks.corpora.table_labels import TableLabels
from tasks.corpora.table_patients import known_patients, patients_by_pattern
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
            "  image, label: columns; an image is named with or without folder and extension; label may be a list of\n"
            "    columns of 1 and 0, one a class\n"
            "  patient: a column, or patient_pattern: a regular expression with one group on the image's name or path\n"
            "  split: a column with train, val or test, or split_lists: a text file of image names for each\n"
            "  unlabelled: label values that mean unlabelled, beside blank\n"
            "  multi-label (corpus.task: multilabel): label_separator, and negative for none of the classes; the\n"
            "    labels of several rows about one image are united\n"
            "  attributes: columns of exam, eye, site, camera, date, sex, age, projection, gradable\n"
            "  encoding: of the CSV and the lists, where it is not UTF-8\n"
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
        sheet = read_table(tree, table.csv, table.delimiter, table.encoding)
        images = pa.array(tree.images(table.images), pa.string())
        if not len(images):
            raise CorpusError(
                f"{tree.show(table.images)}: no image in it (looked for .jpg, .png, .tif, .bmp, .webp, .gif)"
                + unpack_hint(tree)
            )
        matcher = PathMatcher(images)
        if why := header_missing(sheet, matcher):
            raise CorpusError(why)
        task = section.task or "single"
        labels, absent, several, notes = _labels(sheet, table, matcher, task)
        subject = np.arange(len(images))
        texts = labels.label_texts(subject)
        coding = coding_of(section, table, task, texts)
        names = stems(images), stems(absent)
        patients, more = patients_by_pattern(table.patient_pattern, images, absent)
        notes += [*sheet.notes, *more, *respelled(coding, texts)]
        listed, refused, more = _lists(tree, table, matcher)
        notes += more
        rows = RowBuilder(coding)
        rows.add(images, names[0], labels, subject, patient=patients[0], split=listed, refused=[several, refused])
        rows.add_missing(names[1], labels, np.arange(len(images), len(images) + len(absent)), patient=patients[1])
        found, more = rows.finish()
        unknown = pc.sum(pc.and_(pc.equal(found.table["patient"], ""), pc.is_valid(found.table["path"]))).as_py()
        if (table.patient or table.patient_pattern) and unknown:
            more.append(f"{unknown} images have no patient; each counts as a patient of its own")
        official = frozenset(table.split_lists) | set(pc.unique(found.table["split"]).to_pylist()) - {""}
        modality = section.modality or "other"
        size, crop = sizes_of(modality)
        notes += more + tree.source.notes
        return Scan(task, coding.classes, modality, size, official, found, notes, crop=crop, below=tree.below)


def sizes_of(modality: str) -> tuple[int, str]:
    """Default shorter side in the shards, in pixels, and crop of a kind of image."""
    return FUNDUS_SIZE if modality == "fundus" else OTHER_SIZE, modality if modality in CROPPED else "none"


def _place(tree: Tree, table: TableSection) -> Tree:
    """The folder that holds the table and the images."""
    images = [] if table.images.strip("./") == "" else [table.images]
    inside = [] if outside(tree, table.csv) else [table.csv]
    return within(tree, *inside, *images) or need(tree, TableCorpus.name, *images)


def _labels(
    sheet: CsvTable, table: TableSection, matcher: PathMatcher, task: str
) -> tuple[TableLabels, pa.StringArray, tuple[np.ndarray, pa.StringArray], list[str]]:
    """Labels of images, by position, and after these of names without one; these names; images to refuse; notes."""
    name = sheet.texts(table.image)
    notes: list[str] = []
    if isinstance(table.label, str):
        label = sheet.texts(table.label)
    else:
        label = pc.binary_join_element_wise(*(sheet.texts(column) for column in table.label), COLUMNS)
    patient = None
    if table.patient:
        patient, notes = known_patients(sheet.texts(table.patient))
    split_text = sheet.texts(table.split) if table.split else pa.repeat("", len(sheet))
    split = translated(split_text, split_of_word)
    wrong = pc.index(pc.or_(pc.equal(name, ""), split.is_null()), True).as_py()
    if wrong >= 0:
        where = sheet.where(wrong)
        if not name[wrong].as_py():
            raise CorpusError(f"{where}: column {table.image!r} is blank; an image's name is needed there")
        raise CorpusError(f"{where}: split is {split_text[wrong].as_py()!r}; train, val or test is expected")
    found = matcher.find(name)
    subject = found.single()
    rows = np.flatnonzero(found.count == 0)
    if len(rows) == len(sheet) > 0:
        raise CorpusError(nothing_found(sheet, table.image, name, matcher.paths))
    absent = coded(name.take(pa.array(rows)))
    subject[rows] = absent.codes + len(matcher.paths)
    if task == "multilabel" and isinstance(table.label, str):
        label, count = united(label, subject.tolist(), table.label_separator)
        if count:
            notes.append(f"{count} images have several rows with other labels; their labels are united")
    attributes: dict[str, pa.StringArray] = {}
    for own, column in (table.attributes or {}).items():
        attributes[own], more = column_of(sheet, column, own)
        notes += more
    labels = TableLabels(
        sheet,
        label,
        subject,
        len(matcher.paths) + len(absent.texts),
        patient=patient,
        split=split if table.split else None,
        attributes=attributes,
    )
    row, several = found.pairs(np.flatnonzero(found.count > 1))
    reasons = joined(
        sheet.places(row),
        " names ",
        pa.array(found.count[row]).cast(pa.string()),
        f" files; give the folder too in column {table.image!r}",
    )
    return labels, absent.texts, (several, reasons), notes


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
        found = matcher.find(pa.array(read_lines(tree, file, table.encoding), pa.string()))
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


def split_of_word(text: str) -> str | None:
    """The split that a word means; None when it means none."""
    for split, words in WORDS.items():
        if text.casefold() in words:
            return split
    return None if text else ""
