"""Hyper-Kvasir: labelled and unlabelled endoscopy frames, official folds, no patient numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, need, stems, within
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import CsvTable, coded, read_table, table_exists, translated
from tasks.corpora.label_maps import OTHER_NAMES
from tasks.corpora.labelled_images import Naming, add_images
from tasks.corpora.mapped_labels import map_of, mapped
from tasks.corpora.resolve_labels import Refusals, RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import ABSENT, labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

LABELS = "labeled-images/image-labels.csv"
POOL = "unlabeled-images"


class HyperKvasir(ExistingCorpus):
    """Adapter `hyper-kvasir`."""

    name = "hyper-kvasir"
    licence = "CC BY 4.0"
    citation = "Borgli et al., HyperKvasir, a comprehensive image and video dataset, Scientific Data 7, 2020"

    def describe(self) -> str:
        return (
            "Hyper-Kvasir, hyper-kvasir-labeled-images.zip and hyper-kvasir-unlabeled-images.zip, packed or extracted\n"
            "  labeled-images/image-labels.csv: Video file,Organ,Finding,Classification\n"
            "  labeled-images/<tract>/<group>/<class>/<uuid>.jpg\n"
            "  optional unlabeled-images/images/<uuid>.jpg: the unlabelled pool\n"
            "  optional 2_fold_split.csv or 5_fold_split.csv (also in official_splits/):\n"
            "    file-name;class-name;split-index, used when corpus.split.official names it:\n"
            "    corpus.split.test_fold is the test split, validation is taken out of the other folds\n"
            "The class is the Finding of image-labels.csv; corpus.classes may also have the names of the split files\n"
            "(polyp for polyps, normal-cecum for cecum). There are no patients: splits are by image."
        )

    def fits(self, tree: Tree) -> str | None:
        return LABELS if within(tree, LABELS) else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        top, tree = tree, need(tree, self.name, "labeled-images", LABELS)
        task = section.task or "single"
        if task == "multilabel":
            raise CorpusError("corpus.task multilabel: a Hyper-Kvasir frame has one finding; use single")
        table = read_table(tree, LABELS)
        name, finding = table.texts("Video file"), table.texts("Finding")
        through = map_of(section)
        # Classes of the spec may have either name.
        chosen = {OTHER_NAMES[own]: own for own in section.classes or () if own in OTHER_NAMES}
        finding, notes = mapped(section, table, translated(finding, lambda text: chosen.get(text, text)))
        by_name = labels_by_name(table, stems(name), finding)
        paths = pa.array(tree.images("labeled-images"), pa.string())
        names = stems(paths)
        shown = sorted(by_name.labels.label_texts(by_name.subject(names)) - {""})
        classes = through.classes if through else tuple(section.classes or shown)
        rows = RowBuilder(Coding(task, classes))
        folds = self._folds(section, (tree, top))
        split, refused = folds.of(by_name.subject(names), names) if folds else (None, ())
        where = "labeled-images"
        notes += add_images(rows, paths.to_pylist(), Naming(), by_name, where, split=split, refused=refused)
        add_images(rows, tree.images(POOL), Naming(), None, POOL)
        notes += folds.notes(names) if folds else []
        found, more = rows.finish()
        official = frozenset({"train", "test"}) if folds is not None else frozenset[str]()
        notes += more + tree.source.notes
        return Scan(task, classes, "endoscopy", 512, official, found, notes, crop="endoscopy", below=tree.below)

    def _folds(self, section: CorpusSection, places: tuple[Tree, Tree]) -> Folds | None:
        """The official split, when the section names one.

        Args:
            places: where the file may lie: the folder of the images, or the top of the source.
        """
        file = section.split.official
        if file is None:
            return None
        tried = [(tree, path) for tree in places for path in (file, f"official_splits/{file}")]
        place = next(((tree, path) for tree, path in tried if table_exists(tree, path)), None)
        if place is None:
            shown = [tree.show(path) for tree, path in tried[:2]]
            raise CorpusError(f"corpus.split.official {file!r}: neither {shown[0]} nor {shown[1]} is there")
        table = read_table(*place)
        names, fold = _fold_of(table, table.texts("file-name"), table.texts("split-index"))
        test = section.split.test_fold
        if test not in fold:
            raise CorpusError(f"{file}: no fold {test} (corpus.split.test_fold); it has {sorted(set(fold))}")
        return Folds(file, table.name, names, pa.array(["test" if f == test else "train" for f in fold], pa.string()))


@dataclass(frozen=True)
class Folds:
    """An official split file, joined on the file name: class names differ between table and folders."""

    file: str  # as the spec names it
    shown: str
    names: pa.StringArray  # each once
    splits: pa.StringArray  # train or test

    def split(self, names: pa.StringArray) -> pa.StringArray:
        """Split of each name; null where the file has no row for it."""
        return self.splits.take(pc.index_in(names, value_set=self.names))

    def of(self, subject: np.ndarray, names: pa.StringArray) -> tuple[pa.StringArray, Refusals]:
        """Split of each image, "" for one that the file does not name; and labelled ones that it does not name.

        Args:
            subject: of each image in the labels, ABSENT for an unlabelled one.
        """
        split = self.split(names)
        # To train on it could be to train on the test fold.
        unknown = np.flatnonzero((subject != ABSENT) & split.is_null().to_numpy(False))
        reasons = pa.repeat(f"{self.file} has no row for it, so its fold is unknown", len(unknown))
        return split.fill_null(""), [(unknown, reasons)]

    def notes(self, images: pa.StringArray) -> list[str]:
        """For people: rows of the file without an image."""
        absent = len(self.names) - pc.sum(pc.is_in(self.names, value_set=images)).as_py()
        return [f"{absent} of {len(self.names)} rows of {self.shown} have no image here"] if absent else []


def _fold_of(table: CsvTable, name: pa.StringArray, index: pa.StringArray) -> tuple[pa.StringArray, list[int]]:
    """Image names, each once, and the fold of each."""
    names, indices = coded(stems(name)), coded(index)
    number = [int(text) if text.isascii() and text.isdigit() else -1 for text in indices.texts.to_pylist()]
    # Folds by place in this list: `1` and `01` are one fold, and no number is too large for it.
    places = {fold: at for at, fold in enumerate(dict.fromkeys(number))}
    fold = np.array([places[n] for n in number], np.int64)[indices.codes]
    first = np.unique(names.codes, return_index=True)[1]
    bad = fold == places.get(-1, ABSENT)
    wrong = np.flatnonzero(bad | (fold != fold[first][names.codes]))
    if len(wrong):
        row = int(wrong[0])
        if bad[row]:
            fault = f"split-index is {index[row].as_py()!r}; a fold number is expected"
        else:
            fault = f"{name[row].as_py()} stands in two folds"
        raise CorpusError(f"{table.where(row)}: {fault}")
    folds = list(places)
    return names.texts, [folds[at] for at in fold[first].tolist()]
