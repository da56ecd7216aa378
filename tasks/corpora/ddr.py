"""DDR, its part on grading: fundus photographs graded 0 to 4, or 5 where they cannot be graded.

The release (github.com/nkicsl/DDR-dataset, ten parts of one zip) documents no layout. What stands here is what several
public readers of it agree on: `DR_grading/train.txt`, `valid.txt` and `test.txt`, with a line `007-0004-000.jpg 0` for
each image of the folder of that name; 5 is ungradable; 6,835, 2,733 and 4,105 images, of which 1,151 are ungradable.

Not documented: whether what several names begin with (`007-0004`) is a patient. The paper counts 9,598 patients of
13,673 images (Li et al. 2019), and no file names them: each image counts as a patient of its own, and whether patients
stand in several official splits cannot be checked. A name in two folders is two images.

A copy on Kaggle (`DR_grading.csv` beside one folder, without splits and without the ungradable images) has another
layout, which adapter `table` reads.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.attributes import NO, YES
from tasks.corpora.base import ExistingCorpus, listed, need, stems, within
from tasks.corpora.csv_table import CsvTable, numbered_lines, table_of
from tasks.corpora.labelled_images import Naming, add_images
from tasks.corpora.mapped_labels import grade_coding, mapped
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import LabelsByName, labels_by_name
from tasks.sources import Tree
from tasks.sources.passed_over import IMAGE_SUFFIXES
from tasks.spec import CorpusSection

GRADES = ("0", "1", "2", "3", "4")
UNGRADABLE = "5"
PARTS = {"train": "train", "valid": "val", "test": "test"}
"""Split of each list and of the folder of its name."""
_FOLDER, _FIRST = "DR_grading", "train.txt"
_LINE = re.compile(rf"(\S.*?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))\s+(\S+)", re.I)
_LOOKED_AT = 10  # lines that tell a list of DDR from another train.txt


class Ddr(ExistingCorpus):
    """Adapter `ddr`."""

    name = "ddr"
    licence = "MIT, the LICENSE file of nkicsl/DDR-dataset, which says nothing of the images in particular"
    citation = (
        "Li et al., Diagnostic assessment of deep learning algorithms for diabetic retinopathy screening, "
        "Information Sciences 501, 2019"
    )

    def describe(self) -> str:
        return (
            "DDR, as downloaded (DDR-dataset.zip.001 ...) or extracted; its folder DR_grading\n"
            "  train.txt, valid.txt, test.txt: an image and its grade a line (007-0004-000.jpg 0)\n"
            "  train/, valid/, test/: the images of each list, which are its split\n"
            "Grades 0 to 4 (ICDR), ordinal, or corpus.label_map; 5 is an image that cannot be graded, which stays\n"
            "unlabelled. There are no patients: a split that is not here is carved out of the others by image."
        )

    def fits(self, tree: Tree) -> str | None:
        found = _place(tree, _FIRST)
        if found is None or not found.is_file(_FIRST):
            return None
        try:
            lines = numbered_lines(found, _FIRST)[:_LOOKED_AT]
        except CorpusError:
            return None
        return f"{_FIRST} of DDR" if lines and all(_LINE.fullmatch(line) for _, line in lines) else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        wanted = (_FIRST, "valid.txt", "test.txt", "train")
        places = (_place(tree, name) for name in wanted)
        tree = next((place for place in places if place is not None), None) or need(tree, self.name, _FIRST)
        coding = grade_coding(section, GRADES)
        rows, notes, official = RowBuilder(coding), list[str](), set[str]()
        for part, split in PARTS.items():
            path, images = f"{part}.txt", tree.images(part)
            if not images and not tree.is_file(path):
                notes.append(f"neither {path} nor images in {part}/ are here")
                continue
            if not tree.is_file(path):
                raise CorpusError(
                    f"{tree.show(path)}: no such file, although {part}/ is there (beside it: "
                    f"{listed(tree.names(most=1000))}); download it too, or give the list its name"
                )
            if not images:
                raise CorpusError(f"{tree.show(part)}: no image in it, although {path} is there; download it too")
            given, more = _labels(section, _read(tree, path), split)
            official.add(split)
            # An image without a line stays out of the other splits too.
            notes += more + add_images(rows, images, Naming(), given, part, split=pa.repeat(split, len(images)))
        found, more = rows.finish()
        notes += more + tree.source.notes
        splits = frozenset(official) if official > {"train"} else frozenset[str]()
        return Scan(coding.task, coding.classes, "fundus", 1024, splits, found, notes, "fundus", tree.below)


def _place(tree: Tree, wanted: str) -> Tree | None:
    """The folder with that entry, in DR_grading where there is one: the parts on lesions have such folders too."""
    above = within(tree, _FOLDER)
    return within(above.sub(_FOLDER) if above else tree, wanted)


def _read(tree: Tree, path: str) -> CsvTable:
    """A list as a table: image, grade."""
    rows = []
    for number, line in numbered_lines(tree, path):
        found = _LINE.fullmatch(line)
        if found is None:
            raise CorpusError(
                f"{tree.show(path)} line {number}: {line!r} is not an image's name and its grade, as 007-0004-000.jpg 0"
            )
        rows.append((number, found.groups()))
    return table_of(path, ["image", "grade"], rows)


def _labels(section: CorpusSection, table: CsvTable, split: str) -> tuple[LabelsByName, list[str]]:
    names, grade = table.texts("image"), table.texts("grade")
    ungradable = pc.equal(grade, UNGRADABLE)
    gradable = pc.if_else(ungradable, NO, pc.if_else(pc.is_in(grade, value_set=pa.array(GRADES)), YES, ""))
    label, notes = mapped(section, table, pc.if_else(ungradable, "", grade))
    splits = pa.repeat(split, len(table))
    return labels_by_name(table, stems(names), label, split=splits, attributes={"gradable": gradable}), notes
