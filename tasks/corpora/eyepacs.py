"""Kaggle EyePACS (diabetic-retinopathy-detection): fundus photographs graded 0 to 4."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import read_table, table_exists, translated
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

    def describe(self) -> str:
        return (
            "Kaggle diabetic-retinopathy-detection, as downloaded (train.zip.001 ...) or extracted\n"
            "  train/<patient>_left.jpeg, train/<patient>_right.jpeg\n"
            "  trainLabels.csv (or trainLabels.csv.zip): image,level\n"
            "  optional test/ with retinopathy_solution.csv: image,level,Usage\n"
            "    then the split is the usual one: train = train, val = Public, test = Private;\n"
            "    without it patients of train are split by corpus.split, and test/ is unlabelled\n"
            "Images of train without a label row form the unlabelled pool. Grades 0 to 4, ordinal."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "train")
        if found and found.is_dir("train") and table_exists(found, LABELS):
            return f"train/ and {LABELS}"
        return None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tree = need(tree, self.name, "train")
        task = section.task or "ordinal"
        if task == "multilabel":
            raise CorpusError("corpus.task multilabel: an EyePACS image has one grade; use ordinal or single")
        classes = tuple(section.classes or GRADES)
        rows = RowBuilder(Coding(task, classes, numbered=True))
        notes: list[str] = []
        official = frozenset[str]()
        solution = table_exists(tree, SOLUTION) and tree.is_dir("test")
        self._folder(rows, tree, "train", self._labels(tree, LABELS, "train" if solution else ""))
        if solution:
            by_name = self._labels(tree, SOLUTION, None)
            official = frozenset({"train", *pc.unique(by_name.labels.split).to_pylist()})
            self._folder(rows, tree, "test", by_name)
        elif tree.is_dir("test"):
            notes.append(f"no {SOLUTION}: images of test/ are unlabelled, patients of train/ are split")
            self._folder(rows, tree, "test", None)
        elif table_exists(tree, SOLUTION):
            notes.append(f"{SOLUTION} is there, but no test/: patients of train/ are split")
        found, more = rows.finish()
        notes += more + tree.source.notes
        return Scan(task, classes, "fundus", 1024, official, found, notes, crop="fundus", below=tree.below)

    def _labels(self, tree: Tree, path: str, split: str | None) -> LabelsByName:
        table = read_table(tree, path)
        name, level = table.texts("image"), table.texts("level")
        if split is not None:
            return labels_by_name(table, stems(name), level, split=pa.repeat(split, len(table)))
        usage = table.texts("Usage")
        splits = translated(usage, lambda text: USAGE.get(text.casefold()))
        if splits.null_count:
            row = pc.index(splits.is_null(), True).as_py()
            raise CorpusError(f"{table.where(row)}: Usage is {usage[row].as_py()!r}; Public or Private is expected")
        return labels_by_name(table, stems(name), level, split=splits)

    def _folder(self, rows: RowBuilder, tree: Tree, folder: str, by_name: LabelsByName | None) -> None:
        paths = pa.array(tree.images(folder), pa.string())
        names = stems(paths)
        eye = pc.if_else(_side(names, "left"), "left", pc.if_else(_side(names, "right"), "right", ""))
        if by_name is None:
            rows.add(paths, names, patient=_patient(names), eye=eye)
            return
        subject = by_name.subject(names)
        refused = [by_name.duplicates(subject, folder)]
        rows.add(paths, names, by_name.labels, subject, patient=_patient(names), eye=eye, refused=refused)
        left = by_name.without_image(subject)
        names = by_name.names.take(pa.array(left))
        rows.add_missing(names, by_name.labels, left, patient=_patient(names))


def _patient(names: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(names, r"(?s)_.*$", "")


def _side(names: pa.StringArray, side: str) -> pa.BooleanArray:
    return pc.match_substring_regex(names, rf"(?is)._{side}$")
