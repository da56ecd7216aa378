"""Messidor-2: 874 exams of two fundus photographs; grades by another group, four of them `not gradable`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of
from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.csv_table import CsvTable, read_table, table_exists
from tasks.corpora.labelled_images import Naming, add_images, need_columns
from tasks.corpora.mapped_labels import grade_coding, mapped
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

PAIRS, GRADED = "messidor-2.csv", "messidor_data.csv"
COLUMNS = ["image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"]
GRADES = ("0", "1", "2", "3", "4")


class Messidor2(ExistingCorpus):
    """Adapter `messidor-2`."""

    name = "messidor-2"
    licence = "images: research and education only, on request (adcis.net); grades: Kaggle google-brain"
    citation = (
        "Decenciere et al. 2014 and Abramoff et al. 2013 (images); Krause et al., Grader variability and the "
        "importance of reference standards, Ophthalmology 125(8), 2018 (grades)"
    )

    def describe(self) -> str:
        return (
            "Messidor-2 from ADCIS, with the adjudicated grades of Kaggle google-brain/messidor2-dr-grades\n"
            "  IMAGES/*.png and *.JPG, messidor-2.csv: left;right (the two eyes of an exam)\n"
            "  messidor_data.csv: image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
            "    names are matched in any case, without suffix; images that cannot be graded stay unlabelled\n"
            "Grades 0 to 4 (ICDR), ordinal, or corpus.label_map. An exam counts as a patient: none is named, and its\n"
            "two eyes stay together."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "IMAGES", PAIRS)
        return f"IMAGES/ and {PAIRS}" if found else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tree = need(tree, self.name, "IMAGES", PAIRS)
        if not table_exists(tree, GRADED):
            raise CorpusError(
                f"{tree.show(GRADED)}: no such file; {PAIRS} has no grades, so take {GRADED} from Kaggle "
                "google-brain/messidor2-dr-grades and put it beside IMAGES/"
            )
        coding = grade_coding(section, GRADES)
        pairs, table = read_table(tree, PAIRS, ";"), read_table(tree, GRADED)
        need_columns(pairs.header, ["left", "right"], tree.show(PAIRS))
        need_columns(table.header, COLUMNS, tree.show(GRADED))
        gradable, notes = column_of(table, COLUMNS[3], "gradable")
        grade, more = mapped(section, table, table.texts(COLUMNS[1]), COLUMNS[2])
        notes += more
        given = labels_by_name(table, _key(table.texts(COLUMNS[0])), grade, attributes={"gradable": gradable})
        rows = RowBuilder(coding)
        notes += add_images(rows, tree.images("IMAGES"), _naming(pairs), given, "IMAGES")
        found, more = rows.finish()
        unpaired = pc.sum(pc.and_(pc.equal(found.table["exam"], ""), pc.is_valid(found.table["path"]))).as_py()
        if unpaired:
            more.append(f"{unpaired} images stand in no row of {PAIRS}; each counts as a patient of its own")
        notes += more + tree.source.notes
        return Scan(coding.task, coding.classes, "fundus", 1024, frozenset(), found, notes, "fundus", tree.below)


def _key(names: pa.StringArray) -> pa.StringArray:
    """What both tables call an image: `.jpg` there is `.JPG` on disk."""
    return pc.utf8_lower(stems(names))


def _naming(pairs: CsvTable) -> Naming:
    """Exams by the name of the left eye's image."""
    left, right = (_key(pairs.texts(side)) for side in ("left", "right"))
    names, exams = pa.concat_arrays([left, right]), pa.concat_arrays([left, left])
    sides = pa.concat_arrays([pa.repeat("left", len(left)), pa.repeat("right", len(right))])

    def looked_up(values: pa.StringArray, of: pa.StringArray) -> pa.StringArray:
        return values.take(pc.index_in(of, value_set=names)).fill_null("")

    def exam(of: pa.StringArray) -> pa.StringArray:
        return looked_up(exams, of)

    return Naming(_key, patient=exam, attributes={"exam": exam, "eye": lambda of: looked_up(sides, of)})
