"""The corpus section of the spec as text: which adapter, and what the columns of a table are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from tasks.corpora import adapter_of, guess
from tasks.corpora.base import within
from tasks.corpora.csv_table import table_exists
from tasks.data.catalog import OK
from tasks.proposal.columns import SIDED, LabelColumn
from tasks.proposal.inspection import FolderContents, inspect_folder
from tasks.proposal.yaml_lines import commented, quoted
from tasks.sources import Tree
from tasks.spec import CorpusSection, FolderSection
from tasks.spec.label_maps import LABEL_MAPS

_GRADES = (commented("  task: ordinal", "the grades have an order"),)
_UNCERTAIN = (
    "  chexpert:",
    commented("    uncertain: masked", "-1.0; or zeros, ones, or one by finding"),
    commented("    unmentioned: zeros", "blank; or masked, ones, or one by finding"),
)
_FRAMES = (commented("  task: single", "one class an image"),)

# Layouts that need no guess: kind of image, lines of the corpus section, where patients come from.
_KNOWN: dict[str, tuple[str, tuple[str, ...], str]] = {
    "eyepacs": ("fundus", _GRADES, "the number before _left and _right"),
    "aptos": ("fundus", _GRADES, "APTOS names none; splits are by image"),
    "messidor": ("fundus", _GRADES, "Messidor names none; splits are by image"),
    "messidor-2": ("fundus", _GRADES, "the two eyes of an exam, as messidor-2.csv pairs them"),
    "idrid": ("fundus", _GRADES, "IDRiD names none; splits are by image"),
    "ddr": ("fundus", _GRADES, "DDR names none; what is not split yet is split by image"),
    "isic-2018": ("other", _FRAMES, "images of one lesion count as one"),
    "isic-2019": ("other", _FRAMES, "images of one lesion count as one"),
    "pad-ufes-20": ("other", _FRAMES, "the column patient_id"),
    "kvasir": ("endoscopy", _FRAMES, "Kvasir names none; splits are by image"),
    "chexpert": ("xray", _UNCERTAIN, "the folder patient00001 and the like"),
    "chestx-ray14": ("xray", (), "the column Patient ID"),
}


FEW = 5  # images of a class below which its figures say little


@dataclass
class CorpusProposal:
    """The proposed corpus section, with the guesses and notes that explain it."""

    adapter: str
    reason: str
    lines: list[str]  # of the spec's corpus section
    split: list[str] = field(default_factory=list)  # of corpus.split
    guesses: list[str] = field(default_factory=list)  # as lines of text
    notes: list[str] = field(default_factory=list)
    table: str = ""  # a CSV to write beside the spec
    modality: str = "other"
    sided: bool = False
    mask: str = ""  # preset of ingest.mask


def propose_corpus(tree: Tree, labels: Path) -> CorpusProposal:
    """Propose the corpus section by the first adapter that fits the folder; a table last.

    Args:
        labels: where a table made from folder names will be written.

    Raises:
        CorpusError: no images, or nothing that could be their labels.
    """
    fitting = guess(tree)
    if fitting and fitting[0] == "hyper-kvasir":
        lines = [
            "  task: single",
            commented("  # classes: [polyps, cecum]", "default: every Finding that has images"),
            *_map_lines("hyper-kvasir"),
        ]
        below = within(tree, "labeled-images") or tree
        split = [
            commented(f"    # official: {name}", "the official folds; then test_fold is the test split")
            for name in ("2_fold_split.csv", "5_fold_split.csv")
            if any(table_exists(t, p) for t in (tree, below) for p in (name, f"official_splits/{name}"))
        ]
        guesses = ["patients: Hyper-Kvasir names none; splits are by image"]
        return CorpusProposal(*fitting, lines, split, guesses, modality="endoscopy", mask="hyper-kvasir")
    if fitting and fitting[0] in _KNOWN:
        modality, known, patients = _KNOWN[fitting[0]]
        findings = _findings(fitting[0], tree) if modality == "xray" else None
        if findings is not None and not findings.several:
            return _own(inspect_folder(tree), labels)
        if findings is not None:
            known = (findings.line, *known)
        lines = [*known, *_map_lines(fitting[0])]
        return CorpusProposal(*fitting, lines, [], [f"patients: {patients}"], modality=modality)
    if fitting and fitting[0].startswith("phantom-"):
        marker = json.loads((within(tree, "phantom.json") or tree).read("phantom.json"))["parameters"]
        drawn = {k: v for k, v in marker.items() if k not in ("kind", "drawing")}
        lines = ["  phantom:                       # as it was drawn", *(f"    {k}: {v}" for k, v in drawn.items())]
        return CorpusProposal(*fitting, lines, modality=fitting[0].removeprefix("phantom-"))
    return _own(inspect_folder(tree), labels)


def _map_lines(adapter: str) -> list[str]:
    """A line on the label maps of an adapter: one of them, and which others there are."""
    names = list(LABEL_MAPS.get(adapter, ()))
    if not names:
        return []
    own = "referable" if "referable" in names else names[-1]
    others = ", ".join(name for name in names if name != own)
    return [commented(f"  # label_map: {own}", f"or {others}; then without task and classes")]


@dataclass(frozen=True)
class _Findings:
    """Findings of a corpus of several an image: those that enough images show, outside of the test split."""

    shown: list[str]
    every: tuple[str, ...]
    several: bool  # some image shows two or more of them

    @property
    def line(self) -> str:
        """The key `classes`, as a line."""
        few = 1 < len(self.shown) < len(self.every)
        names = ", ".join(map(quoted, self.shown if few else self.every))
        if not few:
            return commented(f"  # classes: [{names}]", "all of them by default; others are then none")
        return commented(f"  classes: [{names}]", f"findings that {FEW} training images show or more")


def _findings(adapter: str, tree: Tree) -> _Findings:
    scan = adapter_of(adapter).scan(CorpusSection.model_validate({"adapter": adapter, "root": tree.source.url}), tree)
    table = scan.rows.table
    own = table.filter(pc.and_(pc.equal(table["status"], OK), pc.not_equal(table["split"], "test")))
    shown = np.array(own["labels"].to_pylist(), np.int8).reshape(len(own), len(scan.classes)) == 1
    names = [name for name, count in zip(scan.classes, shown.sum(axis=0), strict=True) if count >= FEW]
    return _Findings(names, scan.classes, bool((shown.sum(axis=1) > 1).any()))


def _own(found: FolderContents, labels: Path) -> CorpusProposal:
    """Of a folder that no named layout fits, or whose labels are simpler than those of the layout."""
    return _table(found, labels) if found.layout is None else _folder(found, found.layout)


def _folder(found: FolderContents, layout: FolderSection) -> CorpusProposal:
    label = found.label
    unlabelled = ", ".join(json.dumps(name, ensure_ascii=False) for name in layout.unlabelled)
    lines = [
        commented(f"  task: {label.task}", "ordinal: the classes have an order"),
        f"  classes: {_classes(label)}",
        "  folder:",
        commented(f"    layout: {json.dumps(layout.layout)}", "what each folder on the way to an image says"),
        commented(f"    unlabelled: [{unlabelled}]", "folders whose images are the unlabelled pool"),
    ]
    made = CorpusProposal(
        "folder", "one folder for each class", lines, modality=found.modality, notes=list(found.notes)
    )
    made.sided = any(SIDED.search(name) for name in label.counts)
    made.guesses = [f"folders: {layout.layout} ({label})", f"patients: {found.patient.why}"]
    return made


def _table(found: FolderContents, labels: Path) -> CorpusProposal:
    label, patient = found.label, found.patient
    csv = found.csv or str(labels)
    sentinels = sorted({s for c in (label, *found.others) for s in c.sentinels})
    lines = [
        commented(f"  task: {label.task}", "ordinal: the classes have an order; multilabel: several at once"),
        f"  classes: {_classes(label)}",
        "  table:",
        f"    csv: {quoted(csv)}",
        commented(f"    images: {quoted(found.within)}", "folder of the images, searched below"),
        f"    image: {quoted(found.image)}",
        f"    label: {_column(label)}",
        *(
            commented(f"    # label: {_column(o)}", f"with task: {o.task}, classes: {_classes(o)}; {o}")
            for o in found.others[:4]
        ),
    ]
    if label.task == "multilabel" and not label.columns:
        lines.append(f"    label_separator: {json.dumps(label.separator)}")
        none = quoted(label.negative) if label.negative else "null"
        lines.append(commented(f"    negative: {none}", "the value that means none of the classes"))
    unlabelled = ", ".join(json.dumps(w, ensure_ascii=False) for w in sentinels)
    lines.append(commented(f"    unlabelled: [{unlabelled}]", "values that mean unlabelled; blank always does"))
    if patient.column:
        lines.append(f"    patient: {quoted(patient.column)}")
    elif patient.pattern:
        lines.append(
            commented(f"    patient_pattern: {json.dumps(patient.pattern)}", "on the image's name; or patient: COLUMN")
        )
    else:
        lines.append(
            commented("    # patient: COLUMN", "or patient_pattern; without, each image is a patient of its own")
        )
    if found.split:
        lines.append(f"    split: {quoted(found.split)}")
    if found.split_lists:
        lines += ["    split_lists:", *(f"      {s}: {quoted(f)}" for s, f in sorted(found.split_lists.items()))]
    reason = f"{found.csv} names the images" if found.csv else "one folder for each class"
    made = CorpusProposal("table", reason, lines, modality=found.modality, notes=list(found.notes), table=found.text)
    made.sided = any(SIDED.search(c) for c in label.counts)
    what = (
        f"columns of 1 and 0, {label.columns[0]!r} to {label.columns[-1]!r}"
        if label.columns
        else f"column {label.column!r}"
    )
    made.guesses = [f"label: {what} ({label})", f"patients: {patient.why}"]
    if found.others:
        others = "; ".join(f"{o.column!r} ({o})" for o in found.others[:4])
        made.guesses.insert(1, f"other columns that could be the label: {others}")
    if found.text:
        made.notes.append(f"the labels were read off the folders and written to {csv}")
    return made


def _column(label: LabelColumn) -> str:
    return f"[{', '.join(map(quoted, label.columns))}]" if label.columns else quoted(label.column)


def _classes(label: LabelColumn) -> str:
    return f"[{', '.join(quoted(c) for c in label.counts)}]"
