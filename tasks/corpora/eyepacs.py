"""Kaggle EyePACS (diabetic-retinopathy-detection): fundus photographs graded 0 to 4."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.csv_table import read_table, table_exists, translated
from tasks.corpora.labelled_images import Naming, add_images
from tasks.corpora.mapped_labels import grade_coding, mapped
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import LabelsByName, labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

LABELS, SOLUTION = "trainLabels.csv", "retinopathy_solution.csv"
GRADES = ("0", "1", "2", "3", "4")
USAGE = {"public": "val", "private": "test"}


class EyePacs(ExistingCorpus):
    """Adapter `eyepacs`."""

    name = "eyepacs"
    licence = "rules of the Kaggle competition diabetic-retinopathy-detection"
    citation = "Cuadros and Bresnick, EyePACS, Journal of Diabetes Science and Technology 3(3), 2009; Kaggle 2015"

    def describe(self) -> str:
        return (
            "Kaggle diabetic-retinopathy-detection, as downloaded (train.zip.001 ...) or extracted\n"
            "  train/<patient>_left.jpeg, train/<patient>_right.jpeg\n"
            "  trainLabels.csv (or trainLabels.csv.zip): image,level\n"
            "  optional test/ with retinopathy_solution.csv: image,level,Usage\n"
            "    then the split is the usual one: train = train, val = Public, test = Private;\n"
            "    without it patients of train are split by corpus.split, and test/ is unlabelled\n"
            "Images of train without a label row form the unlabelled pool. Grades 0 to 4 (ICDR), ordinal,\n"
            "or corpus.label_map."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "train")
        if found and found.is_dir("train") and table_exists(found, LABELS):
            return f"train/ and {LABELS}"
        return None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tree = need(tree, self.name, "train")
        coding = grade_coding(section, GRADES)
        rows, notes = RowBuilder(coding), list[str]()
        official = frozenset[str]()
        solution = table_exists(tree, SOLUTION) and tree.is_dir("test")
        by_name, more = self._labels(section, tree, LABELS, "train" if solution else "")
        notes += more + add_images(rows, tree.images("train"), NAMING, by_name, "train")
        if solution:
            by_name, more = self._labels(section, tree, SOLUTION, None)
            official = frozenset({"train", *pc.unique(by_name.labels.split).to_pylist()})
            notes += more + add_images(rows, tree.images("test"), NAMING, by_name, "test")
        elif tree.is_dir("test"):
            notes.append(f"no {SOLUTION}: images of test/ are unlabelled, patients of train/ are split")
            add_images(rows, tree.images("test"), NAMING, None, "test")
        elif table_exists(tree, SOLUTION):
            notes.append(f"{SOLUTION} is there, but no test/: patients of train/ are split")
        found, more = rows.finish()
        notes += more + tree.source.notes
        return Scan(
            coding.task, coding.classes, "fundus", 1024, official, found, notes, crop="fundus", below=tree.below
        )

    def _labels(
        self, section: CorpusSection, tree: Tree, path: str, split: str | None
    ) -> tuple[LabelsByName, list[str]]:
        table = read_table(tree, path)
        name = table.texts("image")
        level, notes = mapped(section, table, table.texts("level"))
        if split is not None:
            return labels_by_name(table, stems(name), level, split=pa.repeat(split, len(table))), notes
        usage = table.texts("Usage")
        splits = translated(usage, lambda text: USAGE.get(text.casefold()))
        if splits.null_count:
            row = pc.index(splits.is_null(), True).as_py()
            raise CorpusError(f"{table.where(row)}: Usage is {usage[row].as_py()!r}; Public or Private is expected")
        return labels_by_name(table, stems(name), level, split=splits), notes


def _patient(names: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(names, r"(?s)_.*$", "")


def _eye(names: pa.StringArray) -> pa.StringArray:
    sides = (pc.match_substring_regex(names, rf"(?is)._{side}$") for side in ("left", "right"))
    return pc.if_else(next(sides), "left", pc.if_else(next(sides), "right", ""))


NAMING = Naming(patient=_patient, attributes={"eye": _eye})
