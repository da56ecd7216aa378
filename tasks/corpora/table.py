"""Any CSV beside a folder of images; the spec names the columns."""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.catalog import SPLITS
from tasks.corpora.base import Found, Scan, need, stem, unpack_hint, within
from tasks.corpora.claims import Claim, Coding, Rows
from tasks.corpora.names import Finder
from tasks.corpora.tabular import Table, outside, read_lines, read_table
from tasks.sources import Tree
from tasks.spec import CorpusSection, TableSection

WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


# Shorter side in the shards: lesions of the retina are small, so fundus images train at 512 from 1024.
FUNDUS_SIZE, OTHER_SIZE = 1024, 512
CROPPED = ("fundus", "endoscopy")  # their borders are black and say nothing


class TableCorpus(Found):
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
        images = tree.images(table.images)
        if not images:
            raise CorpusError(
                f"{tree.show(table.images)}: no image in it (looked for .jpg, .png, .tif, .bmp, .webp)"
                + unpack_hint(tree)
            )
        finder = Finder(images)
        known, several, absent = _claims(sheet, table, finder)
        task = section.task or "single"
        coding = _coding(section, table, task, [c for own in known.values() for c in own])
        patient = _patient_of(table, [*images, *absent])
        lists, notes = _lists(tree, table, finder)
        rows = Rows(coding)
        for path in images:
            own = known.get(path, [])
            row = rows.image(path, stem(path), own, patient=patient(path))
            if path in several:
                rows.refuse(row, several[path])
            listed = lists.get(path, [])
            if len(listed) > 1:
                rows.refuse(row, f"it stands in the lists of {' and '.join(listed)}")
            elif listed:
                row.split = row.split or listed[0]
        for name, own in absent.items():
            rows.missing(stem(name), own, patient=patient(name))
        found, heard = rows.finish()
        nobody = pc.sum(pc.and_(pc.equal(found.table["patient"], ""), pc.is_valid(found.table["path"]))).as_py()
        if (table.patient or table.patient_pattern) and nobody:
            heard.append(f"{nobody} images have no patient; each counts as a patient of its own")
        official = frozenset(table.split_lists) | set(pc.unique(found.table["split"]).to_pylist()) - {""}
        modality = section.modality or "other"
        size = FUNDUS_SIZE if modality == "fundus" else OTHER_SIZE
        crop = modality if modality in CROPPED else "none"
        notes += heard + tree.source.notes
        return Scan(task, coding.classes, modality, size, official, found, notes, crop=crop, below=tree.below)


def _place(tree: Tree, table: TableSection) -> Tree:
    """The folder that holds the table and the images."""
    images = [] if table.images.strip("./") == "" else [table.images]
    inside = [] if outside(tree, table.csv) else [table.csv]
    return within(tree, *inside, *images) or need(tree, TableCorpus.name, *images)


def _claims(
    sheet: Table, table: TableSection, finder: Finder
) -> tuple[dict[str, list[Claim]], dict[str, str], dict[str, list[Claim]]]:
    """Claims by path; paths whose row does not say which of several it means; claims without an image."""
    columns = [sheet.column(table.image), sheet.column(table.label)]
    extra = [sheet.column(c) if c else None for c in (table.patient, table.split)]
    # A column that is not named reads the label's cell; it is dropped again below.
    columns += [c if c is not None else columns[1] for c in extra]
    known: dict[str, list[Claim]] = {}
    several: dict[str, str] = {}
    absent: dict[str, list[Claim]] = {}
    for where, (name, label, patient, split) in sheet.cells(*columns):
        if not name:
            raise CorpusError(f"{where}: column {table.image!r} is blank; an image's name is needed there")
        claim = Claim(
            where,
            label,
            patient if extra[0] is not None else "",
            _split(split, where) if extra[1] is not None else "",
        )
        paths = finder.find(name)
        if not paths:
            absent.setdefault(name, []).append(claim)
        elif len(paths) == 1:
            known.setdefault(paths[0], []).append(claim)
        else:
            reason = f"{where} names {len(paths)} files; give the folder too in column {table.image!r}"
            several.update(dict.fromkeys(paths, reason))
    return known, several, absent


def _coding(section: CorpusSection, table: TableSection, task: str, claims: list[Claim]) -> Coding:
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
    return coding(tuple(in_order({n for claim in claims for n in found.names(claim.label)})))


def in_order(labels: set[str]) -> list[str]:
    """Label texts by number when all of them are numbers, else by text."""
    try:
        return sorted(labels, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(labels)


def _patient_of(table: TableSection, names: list[str]) -> Callable[[str], str]:
    """Patient by the image's name; blank leaves it to the patient column."""
    if table.patient_pattern is None:
        return lambda name: ""
    try:
        pattern = re.compile(table.patient_pattern)
    except re.error as error:
        raise CorpusError(f"corpus.table.patient_pattern {table.patient_pattern!r}: {error}") from None
    if pattern.groups < 1:
        raise CorpusError(f"corpus.table.patient_pattern {table.patient_pattern!r}: needs a group for the patient")

    def patient(name: str) -> str:
        match = pattern.search(stem(name))
        return (match.group(1) or "") if match else ""

    if not any(patient(name) for name in names):
        raise CorpusError(
            f"corpus.table.patient_pattern {table.patient_pattern!r} matches no image's name, "
            f"for instance not {stem(names[0])!r}"
        )
    return patient


def _lists(tree: Tree, table: TableSection, finder: Finder) -> tuple[dict[str, list[str]], list[str]]:
    """Path to the splits that list it."""
    listed: dict[str, list[str]] = {}
    notes = []
    for split, file in sorted(table.split_lists.items()):
        if split not in SPLITS:
            raise CorpusError(f"corpus.table.split_lists: {split!r} is no split; use train, val or test")
        names = read_lines(tree, file)
        absent = 0
        for name in names:
            paths = finder.find(name)
            absent += not paths
            for path in paths:
                if split not in listed.setdefault(path, []):
                    listed[path].append(split)
        if absent:
            notes.append(f"{absent} of {len(names)} names in {file} have no image here")
    return listed, notes


def _split(text: str, where: str) -> str:
    for split, words in WORDS.items():
        if text.casefold() in words:
            return split
    if text:
        raise CorpusError(f"{where}: split is {text!r}; train, val or test is expected")
    return ""
