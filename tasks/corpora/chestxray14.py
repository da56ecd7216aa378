"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients, findings mined from reports."""

from __future__ import annotations

import re

import pyarrow as pa

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of
from tasks.corpora.base import ExistingCorpus, listed, stems
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import CsvTable, joined, read_table
from tasks.corpora.label_maps import CHESTXRAY14 as FINDINGS
from tasks.corpora.label_maps import NEGATIVE
from tasks.corpora.labelled_images import Naming, add_images, findings_of, need_columns, split_by_lists
from tasks.corpora.mapped_labels import covered_findings
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

SEPARATOR = "|"
COLUMNS = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "View Position"]
SEX = ("Patient Gender", "Patient Sex")  # by the year of the table
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_TABLE = re.compile(r"data_entry_2017[^/]*\.csv(?:\.zip)?", re.I)


class ChestXray14(ExistingCorpus):
    """Adapter `chestx-ray14`."""

    name = "chestx-ray14"
    licence = "open, with attribution to the NIH Clinical Center (nihcc.app.box.com)"
    citation = "Wang et al., ChestX-ray8, Hospital-scale Chest X-ray Database, CVPR 2017 (arXiv 1705.02315)"

    def describe(self) -> str:
        return (
            "NIH ChestX-ray14, packed or extracted; images in folders of any depth (images_001/images/*.png)\n"
            "  Data_Entry_2017_v2020.csv or Data_Entry_2017.csv: Image Index,Finding Labels,Follow-up #,Patient ID,\n"
            "    Patient Age,Patient Gender (or Sex),View Position,...\n"
            "  train_val_list.txt, test_list.txt: the official split, where both are there\n"
            "  corpus.classes: the findings that count, default all fourteen; others are then no finding\n"
            "Multi-label, `No Finding` is none; validation is taken out of train by patient."
        )

    def fits(self, tree: Tree) -> str | None:
        table = _table(tree)
        return table if table and tree.images() else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        path = _table(tree)
        if path is None:
            raise CorpusError(
                f"{tree.show()}: chestx-ray14 looks for Data_Entry_2017_v2020.csv or Data_Entry_2017.csv, but the "
                f"folder holds {listed(tree.names(most=1000))}"
            )
        table = read_table(tree, path.removesuffix(".zip"))
        need_columns(table.header, COLUMNS, tree.show(path))
        classes = findings_of(section, FINDINGS)
        images = tree.images()
        names = stems(pa.array(images, pa.string()))
        beside = path[: -len(path.rpartition("/")[2])]
        lists = {split: beside + file for split, file in LISTS.items() if tree.is_file(beside + file)}
        split, refused = split_by_lists(tree, lists, names) if len(lists) == len(LISTS) else (None, ())
        attributes, notes = _attributes(table)
        findings, more = covered_findings(section, table, table.texts("Finding Labels"), SEPARATOR, NEGATIVE)
        given = labels_by_name(
            table,
            stems(table.texts("Image Index")),
            findings,
            patient=table.texts("Patient ID"),
            attributes=attributes,
        )
        others = frozenset(FINDINGS) - set(classes)
        rows = RowBuilder(Coding("multilabel", classes, separator=SEPARATOR, negative=NEGATIVE, others=others))
        where = tree.show().rpartition("/")[2]
        notes += more + add_images(rows, images, Naming(), given, where, split=split, refused=refused)
        if len(lists) == 1:
            notes.append(
                f"{next(iter(lists.values()))} is there alone; the official split needs {' and '.join(LISTS.values())}"
            )
        found, more = rows.finish()
        notes += more + tree.source.notes
        official = frozenset(LISTS) if split is not None else frozenset[str]()
        return Scan("multilabel", classes, "xray", 512, official, found, notes, below=tree.below)


def _table(tree: Tree) -> str | None:
    """Path of the table, the newer one where both are there."""
    found = [path for path in tree.with_suffix(".csv", ".csv.zip") if _TABLE.fullmatch(path.rpartition("/")[2])]
    return max(found, key=lambda path: ("2020" in path, -path.count("/"), path), default=None)


def _attributes(table: CsvTable) -> tuple[dict[str, pa.StringArray], list[str]]:
    gender = next((name for name in SEX if name in table.header), None)
    if gender is None:
        raise CorpusError(f"{table.name}: no column {' or '.join(SEX)}; it has {listed(table.header, 30)}")
    age, notes = column_of(table, "Patient Age", "age")
    sex, more = column_of(table, gender, "sex")
    projection, others = column_of(table, "View Position", "projection")
    exam = joined(table.texts("Patient ID"), "-", table.texts("Follow-up #"))
    return {"age": age, "sex": sex, "projection": projection, "exam": exam}, notes + more + others
