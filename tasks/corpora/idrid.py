"""IDRiD, part B: fundus photographs graded 0 to 4, in a training and a testing set whose images have the same names."""

from __future__ import annotations

import re

import pyarrow as pa

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, listed, stems
from tasks.corpora.csv_table import read_table
from tasks.corpora.labelled_images import Naming, add_images, need_columns
from tasks.corpora.mapped_labels import grade_coding, mapped
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

GRADES = ("0", "1", "2", "3", "4")
NAME, GRADE = COLUMNS = ["Image name", "Retinopathy grade"]
OEDEMA = "Risk of macular edema"
PARTS = {"train": "training", "test": "testing"}
_LABELS = re.compile(r"(.*?)[^/]*groundtruths/[^/]*disease grading_(training|testing) labels\.csv", re.I)


class Idrid(ExistingCorpus):
    """Adapter `idrid`."""

    name = "idrid"
    licence = "CC BY 4.0"
    citation = "Porwal et al., Indian Diabetic Retinopathy Image Dataset (IDRiD), Data 3(3), 2018"

    def describe(self) -> str:
        return (
            "IDRiD, part B. Disease Grading, packed or extracted\n"
            "  2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv (and b. ... Testing Labels.csv):\n"
            "    Image name,Retinopathy grade,Risk of macular edema\n"
            "  1. Original Images/a. Training Set/IDRiD_001.jpg, b. Testing Set/IDRiD_001.jpg: two images\n"
            "Grades 0 to 4 (ICDR), ordinal, or corpus.label_map; the testing set is the test split. There are no\n"
            "patients: validation is taken out of the training set by image."
        )

    def fits(self, tree: Tree) -> str | None:
        tables = _tables(tree)
        return f"{tables['train'][1].rpartition('/')[2]}" if "train" in tables else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tables = _tables(tree)
        if "train" not in tables:
            raise CorpusError(
                f"{tree.show()}: idrid looks for 2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv, but the "
                f"folder holds {listed(tree.names(most=1000))}"
            )
        coding = grade_coding(section, GRADES)
        rows, notes, official = RowBuilder(coding), list[str](), set[str]()
        for split, (base, path) in tables.items():
            table = read_table(tree, path)
            need_columns(table.header, COLUMNS, tree.show(path))
            grade, more = mapped(section, table, table.texts(GRADE), OEDEMA)
            given = labels_by_name(table, stems(table.texts(NAME)), grade, split=pa.repeat(split, len(table)))
            images = [
                image
                for image in tree.images(base)
                if re.search(rf"original images/[^/]*{PARTS[split]} set/", image[len(base) :], re.I)
            ]
            if not images:
                raise CorpusError(
                    f"{tree.show(base)}: no image in 1. Original Images/{'ab'[split == 'test']}. "
                    f"{PARTS[split].capitalize()} Set/, although {path.rpartition('/')[2]} is there; download it too"
                )
            official.add(split)
            notes += more + add_images(rows, images, Naming(), given, f"{PARTS[split]} set")
        found, more = rows.finish()
        notes += more + tree.source.notes
        splits = frozenset(official) if "test" in official else frozenset[str]()
        return Scan(coding.task, coding.classes, "fundus", 1024, splits, found, notes, "fundus", tree.below)


def _tables(tree: Tree) -> dict[str, tuple[str, str]]:
    """By split, the folder of part B and the path of its table; the part on segmentation has no such tables."""
    found: dict[str, tuple[str, str]] = {}
    for path in tree.with_suffix(".csv"):
        hit = _LABELS.fullmatch(path)
        for split, word in PARTS.items():
            if hit and hit[2].lower() == word:
                found[split] = (hit[1], path)
    return found
