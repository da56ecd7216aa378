"""ISIC 2019: dermoscopy images of eight diagnoses, a column each; images of one lesion stay together."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of
from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import CsvTable, read_table, table_exists
from tasks.corpora.labelled_images import Naming, add_images, need_columns
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import LabelsByName, labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
NO_CLASS = "UNK"  # of the test images, none of training
_PARTS = {"Training": "train", "Test": "test"}


class Isic2019(ExistingCorpus):
    """Adapter `isic-2019`."""

    name = "isic-2019"
    licence = "CC BY-NC 4.0"
    citation = "Tschandl et al. 2018 (HAM10000), Codella et al. 2017, Hernandez-Perez et al. 2024 (BCN20000)"

    def describe(self) -> str:
        return (
            "ISIC 2019 challenge, packed or extracted\n"
            "  ISIC_2019_Training_Input/ISIC_0000000.jpg\n"
            "  ISIC_2019_Training_GroundTruth.csv: image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK (1.0 in one column)\n"
            "  optional ISIC_2019_Training_Metadata.csv: image,age_approx,anatom_site_general,lesion_id,sex\n"
            "  optional ISIC_2019_Test_Input/ with ISIC_2019_Test_GroundTruth.csv: the test split (UNK: unlabelled);\n"
            "    without that table its images are the unlabelled pool\n"
            "Eight classes. There are no patients: images of one lesion count as one, so that none is in two splits."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "ISIC_2019_Training_Input")
        table = "ISIC_2019_Training_GroundTruth.csv"
        return table if found and table_exists(found, table) else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        if section.task not in (None, "single"):
            raise CorpusError(f"corpus.task {section.task}: an image has one diagnosis; use single")
        tree = need(tree, self.name, "ISIC_2019_Training_Input")
        classes = tuple(section.classes or CLASSES)
        rows = RowBuilder(Coding("single", classes))
        notes, official = list[str](), set[str]()
        for part, split in _PARTS.items():
            folder, path = f"ISIC_2019_{part}_Input", f"ISIC_2019_{part}_GroundTruth.csv"
            if not tree.is_dir(folder):
                continue
            given = None
            if split == "train" or table_exists(tree, path):
                given, more = _labels(tree, path, part, split)
                notes += more
                official.add(split)
            notes += add_images(rows, tree.images(folder), Naming(), given, folder)
        found, more = rows.finish()
        notes += more + tree.source.notes
        splits = frozenset(official) if "test" in official else frozenset[str]()
        return Scan("single", classes, "other", 512, splits, found, notes, below=tree.below)


def _labels(tree: Tree, path: str, part: str, split: str) -> tuple[LabelsByName, list[str]]:
    """Labels by image name, with what the metadata say of it."""
    table = read_table(tree, path)
    need_columns(table.header, ["image", *CLASSES], tree.show(path))
    columns = [name for name in (*CLASSES, NO_CLASS) if name in table.header]
    marked = pc.binary_join_element_wise(
        *(
            pc.if_else(pc.match_substring_regex(table.texts(name), r"^1(\.0*)?$"), "" if name == NO_CLASS else name, "")
            for name in columns
        ),
        "",
    )
    names = stems(table.texts("image"))
    attributes, lesion, notes = _metadata(tree, f"ISIC_2019_{part}_Metadata.csv", names)
    splits = pa.repeat(split, len(table))
    return labels_by_name(table, names, marked, patient=lesion, split=splits, attributes=attributes), notes


def _metadata(
    tree: Tree, path: str, names: pa.StringArray
) -> tuple[dict[str, pa.StringArray], pa.StringArray | None, list[str]]:
    if not table_exists(tree, path):
        return {}, None, [f"no {path}: images of one lesion are not known as such"]
    table: CsvTable = read_table(tree, path)
    age, notes = column_of(table, "age_approx", "age")
    sex, more = column_of(table, "sex", "sex")
    at = pc.index_in(names, value_set=stems(table.texts("image")))
    found = {"age": age.take(at).fill_null(""), "sex": sex.take(at).fill_null("")}
    lesion = table.texts("lesion_id").take(at).fill_null("") if "lesion_id" in table.header else None
    return found, lesion, notes + more
