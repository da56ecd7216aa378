"""PAD-UFES-20: photographs of skin lesions from smartphones, six diagnoses, with patients."""

from __future__ import annotations

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of
from tasks.corpora.base import ExistingCorpus, listed, stems
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import read_table
from tasks.corpora.labelled_images import Naming, add_images, has_columns, need_columns
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

CLASSES = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
COLUMNS = ["patient_id", "lesion_id", "age", "gender", "diagnostic", "img_id"]
_TABLE = "metadata.csv"


class PadUfes20(ExistingCorpus):
    """Adapter `pad-ufes-20`."""

    name = "pad-ufes-20"
    licence = "CC BY 4.0"
    citation = "Pacheco et al., PAD-UFES-20, Data in Brief 32, 2020 (doi 10.17632/zr7vgbcyr2.1)"

    def describe(self) -> str:
        return (
            "PAD-UFES-20, packed or extracted; images in folders of any depth (images/imgs_part_1/*.png)\n"
            "  metadata.csv: patient_id,lesion_id,...,age,...,gender,...,diagnostic,...,img_id,...\n"
            "Six classes, ACK to SEK; splits are by patient."
        )

    def fits(self, tree: Tree) -> str | None:
        path = _table(tree)
        return f"{_TABLE} of PAD-UFES-20" if path and has_columns(tree, path, COLUMNS) else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        if section.task not in (None, "single"):
            raise CorpusError(f"corpus.task {section.task}: an image has one diagnosis; use single")
        path = _table(tree)
        if path is None:
            raise CorpusError(
                f"{tree.show()}: pad-ufes-20 looks for {_TABLE}, but the folder holds {listed(tree.names(most=1000))}"
            )
        table = read_table(tree, path)
        need_columns(table.header, COLUMNS, tree.show(path))
        age, notes = column_of(table, "age", "age")
        sex, more = column_of(table, "gender", "sex")
        classes = tuple(section.classes or CLASSES)
        rows = RowBuilder(Coding("single", classes))
        given = labels_by_name(
            table,
            stems(table.texts("img_id")),
            table.texts("diagnostic"),
            patient=table.texts("patient_id"),
            attributes={"age": age, "sex": sex, "exam": table.texts("lesion_id")},
        )
        notes += more + add_images(rows, tree.images(), Naming(), given, tree.show().rpartition("/")[2])
        found, more = rows.finish()
        notes += more + tree.source.notes
        return Scan("single", classes, "other", 512, frozenset(), found, notes, below=tree.below)


def _table(tree: Tree) -> str | None:
    """Path of the table that lies highest."""
    found = [path for path in tree.with_suffix(".csv") if path.rpartition("/")[2].lower() == _TABLE]
    return min(found, key=lambda path: (path.count("/"), path), default=None)
