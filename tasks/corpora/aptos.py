"""APTOS 2019 blindness detection: fundus photographs graded 0 to 4, as Kaggle has them or as they were split again."""

from __future__ import annotations

import pyarrow as pa

from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.csv_table import read_table, table_exists
from tasks.corpora.labelled_images import Naming, add_images, has_columns, need_columns
from tasks.corpora.mapped_labels import grade_coding, mapped
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

GRADES = ("0", "1", "2", "3", "4")
COLUMNS = ["id_code", "diagnosis"]
COMPETITION = (("train.csv", "train_images", ""),)
SPLIT_AGAIN = (
    ("train_1.csv", "train_images", "train"),
    ("valid.csv", "val_images", "val"),
    ("test.csv", "test_images", "test"),
)
"""(table, folder, split) of the competition, and of the copy that others split into three."""


class Aptos(ExistingCorpus):
    """Adapter `aptos`."""

    name = "aptos"
    licence = "rules of the Kaggle competition aptos2019-blindness-detection"
    citation = "APTOS 2019 Blindness Detection, Asia Pacific Tele-Ophthalmology Society, Kaggle 2019"

    def describe(self) -> str:
        return (
            "Kaggle aptos2019-blindness-detection, packed or extracted\n"
            "  train.csv: id_code,diagnosis; train_images/<id_code>.png\n"
            "  optional test_images/: the unlabelled pool (test.csv has no diagnosis)\n"
            "or the copy that was split again: train_1.csv, valid.csv, test.csv: id_code,diagnosis, with\n"
            "  train_images/, val_images/, test_images/ (each may hold a folder of its own name): splits as they are\n"
            "Grades 0 to 4 (ICDR), ordinal, or corpus.label_map. There are no patients: splits are by image."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "train_images")
        for parts in (COMPETITION, SPLIT_AGAIN):
            if found and all(found.is_dir(folder) and table_exists(found, table) for table, folder, _ in parts):
                table = parts[0][0]
                # Other competitions have files of these names, with columns of their own.
                return f"{table} of APTOS" if has_columns(found, table, COLUMNS) else None
        return None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tree = need(tree, self.name, "train_images")
        coding = grade_coding(section, GRADES)
        rows, notes = RowBuilder(coding), list[str]()
        parts = SPLIT_AGAIN if table_exists(tree, SPLIT_AGAIN[0][0]) else COMPETITION
        for path, folder, split in parts:
            table = read_table(tree, path)
            need_columns(table.header, COLUMNS, tree.show(path))
            names, grades = (table.texts(column) for column in COLUMNS)
            grades, more = mapped(section, table, grades)
            given = labels_by_name(table, stems(names), grades, split=pa.repeat(split, len(table)))
            notes += more + add_images(rows, tree.images(folder), Naming(), given, folder)
        if parts is COMPETITION:
            add_images(rows, tree.images("test_images"), Naming(), None, "test_images")
        found, more = rows.finish()
        official = frozenset(split for *_, split in parts) - {""}
        notes += more + tree.source.notes
        return Scan(coding.task, coding.classes, "fundus", 1024, official, found, notes, "fundus", tree.below)
