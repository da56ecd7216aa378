"""CheXpert: chest radiographs with fourteen findings, each present, absent, uncertain or not mentioned."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of, projections
from tasks.corpora.base import ExistingCorpus, need, within
from tasks.corpora.coding import COLUMNS, Coding
from tasks.corpora.csv_table import CsvTable, read_table, table_exists
from tasks.corpora.label_maps import CHEXPERT as FINDINGS
from tasks.corpora.labelled_images import Naming, add_images, findings_of, need_columns
from tasks.corpora.mapped_labels import covered
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import LabelsByName, labels_by_name
from tasks.sources import Tree
from tasks.spec import CheXpertSection, CorpusSection

PARTS = {"train": "train", "valid": "test"}
"""Split of each table: of valid, the 234 images that three radiologists read, no other part is judged as well."""
_FIXED = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
_VALUES = {"masked": "", "zeros": "0", "ones": "1"}


class CheXpert(ExistingCorpus):
    """Adapter `chexpert`."""

    name = "chexpert"
    licence = "Stanford University Dataset Research Use Agreement"
    citation = "Irvin et al., CheXpert, a Large Chest Radiograph Dataset, AAAI 2019 (arXiv 1901.07031)"

    def describe(self) -> str:
        return (
            "CheXpert-v1.0 or CheXpert-v1.0-small, packed or extracted\n"
            "  train.csv, valid.csv: Path,Sex,Age,Frontal/Lateral,AP/PA and fourteen findings (1.0, 0.0, -1.0, blank)\n"
            "  train/patient00001/study1/view1_frontal.jpg, valid/...\n"
            "  corpus.classes: the findings that count, default all fourteen\n"
            "  corpus.chexpert: uncertain (-1.0) and unmentioned (blank): masked, zeros or ones, for all or one by\n"
            "    finding; masked labels are unknown, so that the teacher fills them in\n"
            "Multi-label; valid is the test split, validation is taken out of train by patient."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "train", "train.csv")
        if found is None:
            return None
        try:
            header = read_table(found, "train.csv").header
        except CorpusError:
            return None
        return "train.csv of CheXpert" if {"Path", "Pleural Effusion"} <= set(map(_spelled, header)) else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tree = need(tree, self.name, "train", "train.csv")
        classes = findings_of(section, FINDINGS)
        rows = RowBuilder(Coding("multilabel", classes, columns=True))
        notes, official = list[str](), set[str]()
        for part, split in PARTS.items():
            path = f"{part}.csv"
            if not tree.is_dir(part):
                notes.append(f"no {part}/: its images are not here")
                continue
            if not table_exists(tree, path):
                raise CorpusError(f"{tree.show(path)}: no such file, although {part}/ is there; download it too")
            table = read_table(tree, path)
            need_columns([_spelled(name) for name in table.header], [*_FIXED, *FINDINGS], tree.show(path))
            given, more = _labels(section, table, classes, split)
            official.add(split)
            notes += more + add_images(rows, tree.images(part), Naming(_name, patient=_patient), given, part)
        found, more = rows.finish()
        notes += more + tree.source.notes
        official = official if official > {"train"} else set()
        return Scan("multilabel", classes, "xray", 512, frozenset(official), found, notes, below=tree.below)


def _labels(
    section: CorpusSection, table: CsvTable, classes: tuple[str, ...], split: str
) -> tuple[LabelsByName, list[str]]:
    """Labels by path, from the columns of the findings."""
    how = section.chexpert or CheXpertSection()
    spelled = {_spelled(name): name for name in table.header}
    cells, notes = [], list[str]()
    for name in classes:
        uncertain = _VALUES[how.of(name, how.uncertain, "masked")]
        unmentioned = _VALUES[how.of(name, how.unmentioned, "zeros")]
        texts = pc.replace_substring_regex(table.texts(spelled[name]), r"\.0*$", "")
        told = pc.if_else(pc.equal(texts, ""), unmentioned, texts)
        told = pc.if_else(pc.equal(texts, "-1"), uncertain, told)
        if section.label_map is not None:
            told, more = covered(section, table, told, lambda text: text not in ("", "0", "1"), f" of column {name!r}")
            notes += more
        cells.append(told)
    age, of_age = column_of(table, "Age", "age")
    sex, of_sex = column_of(table, "Sex", "sex")
    attributes = {
        "age": age,
        "sex": sex,
        "projection": projections(table.texts("Frontal/Lateral"), table.texts("AP/PA")),
        "exam": pc.replace_substring_regex(_name(table.texts("Path")), r"_view[^_]*_.*$", ""),
    }
    label = pc.binary_join_element_wise(*cells, COLUMNS)
    names = _name(table.texts("Path"))
    given = labels_by_name(table, names, label, split=pa.repeat(split, len(table)), attributes=attributes)
    return given, [*notes, *of_age, *of_sex]


def _spelled(column: str) -> str:
    """A column's name; one copy writes underscores for blanks."""
    return column.strip().replace("_", " ")


def _name(paths: pa.StringArray) -> pa.StringArray:
    """Of paths, with whatever folders before `patient00001`: patient, study and view, which name one image."""
    plain = pc.replace_substring_regex(paths, r"(?s)^.*?(patient\d+/)", r"\1")
    return pc.replace_substring(pc.replace_substring_regex(plain, r"\.[A-Za-z]+$", ""), "/", "_")


def _patient(names: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(names, r"(?s)_.*$", "")
