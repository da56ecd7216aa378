"""ISIC 2018, task 3: dermoscopy images of seven diagnoses, a column each; images of one lesion stay together.

Names of files, folders and columns are those of the downloads at challenge.isic-archive.com, as public readers have
them: 10,015 training images (HAM10000), 193 for validation, 1,512 for test. The tables come in zips that hold a folder
of the table's name, so that a table may lie in it, or beside the images' folders.

`ISIC2018_Task3_Training_LesionGroupings.csv` (image, lesion_id, diagnosis_confirm_type) is a download of its own and
names the lesions of training images alone; no such file of the validation and test images was found, and none of
patients, age or sex. The table of the test images was published after the challenge; without it they are the unlabelled
pool. HAM10000 as Harvard Dataverse has it (HAM10000_metadata.csv; ISIC2018_Task3_Test_Images) is another layout.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.coding import COLUMNS, Coding
from tasks.corpora.csv_table import CsvTable, read_table, table_exists, translated
from tasks.corpora.labelled_images import Naming, add_images, need_columns
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import LabelsByName, labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
NO_COLUMN = "no column"
"""In place of a diagnosis where none is marked: no class, so that the row is told."""
_MARK = re.compile(r"[01](\.0*)?")
_PARTS = {"Training": "train", "Validation": "val", "Test": "test"}
_LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"


class Isic2018(ExistingCorpus):
    """Adapter `isic-2018`."""

    name = "isic-2018"
    licence = "CC BY-NC 4.0"
    citation = "Codella et al. 2019 (arXiv 1902.03368); Tschandl et al., HAM10000, Scientific Data 5, 2018"

    def describe(self) -> str:
        return (
            "ISIC 2018 challenge, task 3, packed or extracted\n"
            "  ISIC2018_Task3_Training_Input/ISIC_0024306.jpg\n"
            "  ISIC2018_Task3_Training_GroundTruth.csv, also in a folder of its name: image,MEL,NV,BCC,AKIEC,BKL,DF,\n"
            "    VASC (1.0 in one column)\n"
            f"  optional {_LESIONS}: image,lesion_id,diagnosis_confirm_type\n"
            "  optional ..._Validation_Input and ..._Test_Input/ with their tables: the val and test split; without a\n"
            "    table their images are the unlabelled pool\n"
            "Seven classes. There are no patients: images of one lesion count as one, so that none is in two splits."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, _folder("Training"))
        table = _truth(found, "Training") if found else None
        return table.rpartition("/")[2] if table else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        if section.task not in (None, "single"):
            raise CorpusError(f"corpus.task {section.task}: an image has one diagnosis; use single")
        tree = need(tree, self.name, _folder("Training"))
        classes = tuple(section.classes or CLASSES)
        rows = RowBuilder(Coding("single", classes))
        notes, official = list[str](), set[str]()
        for part, split in _PARTS.items():
            folder, path = _folder(part), _truth(tree, part)
            if not tree.is_dir(folder):
                if path:
                    notes.append(f"{path.rpartition('/')[2]} is there, but no {folder}/: its images are not here")
                continue
            given = None
            if path is None and part == "Training":
                raise CorpusError(
                    f"{tree.show(_table(part))}: no such file, although {folder}/ is there; download it too"
                )
            if path is None:
                notes.append(f"no {_table(part)}: images of {folder}/ are the unlabelled pool")
            else:
                given, more = _labels(tree, path, part, split)
                notes += more
                official.add(split)
            notes += add_images(rows, tree.images(folder), Naming(), given, folder)
        found, more = rows.finish()
        notes += more + tree.source.notes
        splits = frozenset(official) if official > {"train"} else frozenset[str]()
        return Scan("single", classes, "other", 512, splits, found, notes, below=tree.below)


def _folder(part: str) -> str:
    return f"ISIC2018_Task3_{part}_Input"


def _table(part: str) -> str:
    return f"ISIC2018_Task3_{part}_GroundTruth.csv"


def _truth(tree: Tree, part: str) -> str | None:
    """Path of a part's table; None where it is not there."""
    name = _table(part)
    return next((path for path in (name, f"{name.removesuffix('.csv')}/{name}") if table_exists(tree, path)), None)


def _labels(tree: Tree, path: str, part: str, split: str) -> tuple[LabelsByName, list[str]]:
    """Labels by image name, and the lesion in place of the patient."""
    table = read_table(tree, path)
    need_columns(table.header, ["image", *CLASSES], tree.show(path))
    cells = pc.binary_join_element_wise(*(table.texts(name) for name in CLASSES), COLUMNS)
    names = stems(table.texts("image"))
    lesion, notes = _lesions(tree, names) if part == "Training" else (None, [])
    splits = pa.repeat(split, len(table))
    return labels_by_name(table, names, translated(cells, _marked), patient=lesion, split=splits), notes


def _marked(cells: str) -> str:
    """The diagnosis that is marked; a text that is no class where it is not one, "" where every cell is blank."""
    marks = dict(zip(CLASSES, cells.split(COLUMNS), strict=True))
    if not any(marks.values()):
        return ""
    odd = [f"{name} {cell}" for name, cell in marks.items() if cell and not _MARK.fullmatch(cell)]
    return " and ".join(odd or [name for name, cell in marks.items() if cell[:1] == "1"]) or NO_COLUMN


def _lesions(tree: Tree, names: pa.StringArray) -> tuple[pa.StringArray | None, list[str]]:
    if not table_exists(tree, _LESIONS):
        return None, [f"no {_LESIONS}: images of one lesion are not known as such"]
    table: CsvTable = read_table(tree, _LESIONS)
    need_columns(table.header, ["image", "lesion_id"], tree.show(_LESIONS))
    at = pc.index_in(names, value_set=stems(table.texts("image")))
    lesions = table.texts("lesion_id").take(at).fill_null("")
    unknown = pc.sum(pc.equal(lesions, "")).as_py() or 0
    if not unknown:
        return lesions, []
    return lesions, [f"{unknown} training images have no lesion in {_LESIONS}; each counts as a lesion of its own"]
