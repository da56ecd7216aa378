"""Images whose folders say what they are: label, patient, split, or attributes, as a layout names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from infra.errors import CorpusError
from tasks.corpora.attributes import column_of
from tasks.corpora.base import ExistingCorpus, stems, unpack_hint
from tasks.corpora.coding import code_all
from tasks.corpora.csv_table import CsvTable, table_of, translated
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import ATTRIBUTES, Scan
from tasks.corpora.table import sizes_of, split_of_word
from tasks.corpora.table_classes import coding_of, respelled
from tasks.corpora.table_labels import labels_by_name
from tasks.corpora.table_patients import known_patients
from tasks.sources import Tree
from tasks.spec import CorpusSection, FolderSection, TableSection

NAMES = ("label", "patient", "split", *ATTRIBUTES)
ANY_DEPTH = "**"
_TOKEN = re.compile(r"\{(\w*)\}|(\*)")


class FolderCorpus(ExistingCorpus):
    """Adapter `folder`."""

    name = "folder"

    def describe(self) -> str:
        return (
            "a folder for each class, with patients, splits or attributes as folders too; corpus.folder says how\n"
            "  layout: folders from corpus.root to the image, as {label}/**, {split}/{label}, {patient}/{label}/**\n"
            f"    in braces: {', '.join(NAMES)}\n"
            "    * is one folder of any name, ** at the end any folders below\n"
            "  name: the image's name without its suffix, such as {patient}_{eye}\n"
            "  unlabelled: names in place of a label that mean unlabelled; rest: pool: so are images elsewhere\n"
            "New images in these folders are found by the next run."
        )

    def fits(self, tree: Tree) -> str | None:
        return None  # any images might lie so; `stillroom init` looks closer

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        how = section.folder or FolderSection()
        images = tree.images()
        if not images:
            raise CorpusError(f"{tree.show()}: folder looks for images, and there is none{unpack_hint(tree)}")
        table = read_folders(how, images, tree.show())
        texts = {name: table.texts(name) for name in table.header}
        notes: list[str] = []
        patient = None
        if "patient" in texts:
            patient, notes = known_patients(texts["patient"])
        split = translated(texts["split"], split_of_word) if "split" in texts else None
        if split is not None and split.null_count:
            first = int(np.flatnonzero(split.is_null().to_numpy(False))[0])
            raise CorpusError(
                f"{tree.show(images[first])}: its split is {texts['split'][first].as_py()!r}; train, val or test is "
                "expected at that place of corpus.folder.layout"
            )
        attributes = {}
        for own in set(texts) & set(ATTRIBUTES):
            attributes[own], more = column_of(table, own, own)
            notes += more
        given = labels_by_name(
            table, texts["image"], texts["label"], patient=patient, split=split, attributes=attributes
        )
        rule = TableSection(csv="folders", image="image", label="label", unlabelled=how.unlabelled)
        labels = set(texts["label"].unique().to_pylist())
        coding = coding_of(section, rule, section.task or "single", labels)
        rows = RowBuilder(coding)
        paths = pa.array(images, pa.string())
        codes = code_all(coding, given.labels.texts)
        outside = np.flatnonzero(codes.wrong.is_valid().to_numpy(False)[given.labels.codes[:-1]])
        why = codes.wrong.take(pa.array(given.labels.codes[outside]))
        rows.add(paths, stems(paths), given.labels, np.arange(len(images)), refused=[(outside, why)])
        found, more = rows.finish()
        official = frozenset(split.unique().to_pylist()) - {""} if split is not None else frozenset[str]()
        modality = section.modality or "other"
        size, crop = sizes_of(modality)
        notes += [*respelled(coding, labels), *more, *tree.source.notes]
        return Scan(coding.task, coding.classes, modality, size, official, found, notes, crop, tree.below)


class Layout:
    """A layout, compiled.

    Raises:
        CorpusError: a name in braces that means nothing, that stands twice, or ** before the end.
    """

    def __init__(self, section: FolderSection) -> None:
        self.section = section
        *folders, last = section.layout.strip("/").split("/")
        deeper = last == ANY_DEPTH
        if not deeper:
            folders.append(last)
        self._names: list[str] = []
        below = "/".join([*(self._pattern(part, "layout") for part in folders), r"(?:.*/)?" if deeper else ""])
        name = self._pattern(section.name, "name") if section.name else r"[^/]*"
        self._whole = re.compile(rf"{below}{name}\.[^./]+", re.DOTALL)
        if "label" not in self._names:
            raise CorpusError(f"corpus.folder: neither layout {section.layout!r} nor name has {{label}}")

    @cached_property
    def names(self) -> list[str]:
        """What it says of images, without `label`."""
        return [name for name in self._names if name != "label"]

    def of(self, path: str) -> dict[str, str] | None:
        """What the path says; None where it does not fit."""
        found = self._whole.fullmatch(path)
        return found.groupdict() if found else None

    def _pattern(self, text: str, key: str) -> str:
        parts, start = [], 0
        for token in _TOKEN.finditer(text):
            parts.append(re.escape(text[start : token.start()]))
            start = token.end()
            if token[2]:
                parts.append("[^/]*")
                continue
            name = token[1]
            if name not in NAMES:
                raise CorpusError(f"corpus.folder.{key}: {{{name}}} is none of {', '.join(NAMES)}")
            if name in self._names:
                raise CorpusError(f"corpus.folder: {{{name}}} stands twice")
            self._names.append(name)
            parts.append(f"(?P<{name}>[^/]+{'?' if start < len(text) else ''})")
        if ANY_DEPTH in text:
            raise CorpusError(f"corpus.folder.{key} {text!r}: ** may only be the last folder of the layout")
        return "".join([*parts, re.escape(text[start:])])


def read_folders(section: FolderSection, images: Sequence[str], shown: str) -> CsvTable:
    """A table of what paths say: image, label, and the other names of the layout.

    Raises:
        CorpusError: the layout is none, or an image does not fit it and `rest` does not say that it is of the pool.
    """
    layout = Layout(section)
    rows: list[list[str]] = []
    odd = []
    for path in images:
        found = layout.of(path)
        if found is None:
            odd.append(path)
            found = {}
        rows.append([path, found.get("label", ""), *(found.get(name, "") for name in layout.names)])
    if odd and section.rest != "pool":
        raise CorpusError(
            f"{shown}: {len(odd)} of {len(images)} images do not lie as corpus.folder says "
            f"({section.layout}{'/' + section.name if section.name else ''}), first {odd[0]}; correct the layout, or "
            "set corpus.folder.rest: pool to take them as unlabelled"
        )
    return table_of("folders", ["image", "label", *layout.names], enumerate(rows, 1))
