"""Messidor: 1,200 fundus photographs of three departments in twelve bases, each with an Excel sheet."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import day
from tasks.corpora.base import ExistingCorpus, listed, stems
from tasks.corpora.csv_table import translated
from tasks.corpora.labelled_images import Naming, add_images, need_columns
from tasks.corpora.mapped_labels import grade_coding, mapped
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.corpora.workbook import read_workbook
from tasks.sources import Tree
from tasks.spec import CorpusSection

GRADES = ("0", "1", "2", "3")
NAME, SITE, GRADE = COLUMNS = ["Image name", "Ophthalmologic department", "Retinopathy grade"]
OEDEMA = "Risk of macular edema"
BASES = 12
_SHEET = re.compile(r"annotation[ _-]*base[ _-]*(\d\d)[^/]*\.xlsx?", re.I)
_DATE = re.compile(r"(\d{8})_")

# Errata that Messidor's maintainers published: images of Base33 that stand there twice, and grades that were wrong.
COPIES = frozenset(
    f"{date}_{number}_0400_PP"
    for date, numbers in {
        "20051202": (54744, 40508, 41238, 41260, 54530, 55607, 41034, 54555, 54611, 55498),
        "20051205": (33025, 35099, 35110),
    }.items()
    for number in numbers
)
GRADED_AGAIN = {
    "20051020_63045_0100_PP": "0",
    "20051020_64007_0100_PP": "3",
    "20051020_63936_0100_PP": "1",
    "20060523_48477_0100_PP": "3",
}


class Messidor(ExistingCorpus):
    """Adapter `messidor`."""

    name = "messidor"
    licence = "research and education only, on request (adcis.net)"
    citation = (
        "Decenciere et al., Feedback on a publicly distributed image database: the Messidor database, "
        "Image Analysis & Stereology 33(3), 2014"
    )

    def describe(self) -> str:
        return (
            "Messidor, as downloaded from ADCIS (Base11.zip ... Base34.zip) or extracted\n"
            "  *.tif in any folder and Annotation_Base<nn>.xls: Image name, Ophthalmologic department,\n"
            "    Retinopathy grade, Risk of macular edema; a sheet may lie beside the bases or in its base\n"
            "  the published errata are applied: 13 copies in Base33 are quarantined, 4 grades corrected\n"
            "Messidor's own grades 0 to 3 (not ICDR), ordinal, or corpus.label_map. The department is the site, the\n"
            "date stands in the names. There are no patients: splits are by image."
        )

    def fits(self, tree: Tree) -> str | None:
        sheets = _sheets(tree)
        return f"Annotation_Base{min(sheets)}.xls" if sheets and tree.images() else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        sheets = _sheets(tree)
        if not sheets:
            raise CorpusError(
                f"{tree.show()}: messidor looks for Annotation_Base11.xls and the like, but the folder holds "
                f"{listed(tree.names(most=1000))}"
            )
        coding = grade_coding(section, GRADES)
        rows, notes = RowBuilder(coding), list[str]()
        left, corrected = pa.array(tree.images(), pa.string()), 0
        for base, path in sorted(sheets.items()):
            table = read_workbook(tree, path)
            need_columns(table.header, COLUMNS, tree.show(path))
            names, grade = stems(table.texts(NAME)), table.texts(GRADE)
            again = translated(names, GRADED_AGAIN.get)
            corrected += len(again) - again.null_count
            grade, more = mapped(section, table, pc.if_else(again.is_null(), grade, again), OEDEMA)
            notes += more
            given = labels_by_name(table, names, grade, attributes={"site": table.texts(SITE)})
            # An archive of a base has no folder in it, so that its images may lie anywhere: names are unique.
            own = pc.is_in(stems(left), value_set=names)
            found, left = left.filter(own), left.filter(pc.invert(own))
            at = np.flatnonzero(pc.is_in(stems(found), value_set=pa.array(sorted(COPIES))))
            copies = (at, pa.repeat("by Messidor's errata a copy of another image of Base33", len(at)))
            naming = Naming(attributes={"date": _dates})
            notes += add_images(rows, found.to_pylist(), naming, given, f"Base{base}", refused=[copies])
        if len(left):
            raise CorpusError(
                f"{tree.show()}: {len(left)} images stand in none of the {len(sheets)} sheets, first {left[0].as_py()}"
                "; download the Annotation_Base<nn>.xls of their bases, or take the images away"
            )
        if corrected:
            notes.append(f"{corrected} grades are those of Messidor's errata")
        if len(sheets) < BASES:
            notes.append(
                f"{len(sheets)} of {BASES} bases are here: {listed((f'Base{base}' for base in sorted(sheets)), 12)}"
            )
        all_rows, more = rows.finish()
        notes += more + tree.source.notes
        return Scan(coding.task, coding.classes, "fundus", 1024, frozenset(), all_rows, notes, "fundus", tree.below)


def _sheets(tree: Tree) -> dict[str, str]:
    """Path of the sheet of each base."""
    found: dict[str, str] = {}
    for path in tree.with_suffix(".xls", ".xlsx"):
        name = _SHEET.fullmatch(path.rpartition("/")[2])
        if name and name[1] in found:
            raise CorpusError(
                f"{tree.show(path)} and {tree.show(found[name[1]])} are both the sheet of Base{name[1]}; keep one"
            )
        if name:
            found[name[1]] = path
    return found


def _dates(names: pa.StringArray) -> pa.StringArray:
    def of(name: str) -> str:
        found = _DATE.match(name)
        return (found and day(found[1])) or ""

    return pa.array([of(name) for name in names.to_pylist()], pa.string())
