"""The spec's corpus section for a folder, by the adapter that fits it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tasks.corpora import guess
from tasks.corpora.base import within
from tasks.corpora.tabular import table_exists
from tasks.proposal import formatting
from tasks.proposal.guess import Label
from tasks.proposal.inspection import Found, look
from tasks.proposal.text import quoted, said
from tasks.sources import Tree


@dataclass
class CorpusPart:
    """The corpus section and what goes with it."""

    adapter: str
    reason: str
    lines: list[str]  # of the spec's corpus section
    split: list[str] = field(default_factory=list)  # of corpus.split
    guesses: list[str] = field(default_factory=list)  # for people
    notes: list[str] = field(default_factory=list)
    table: str = ""  # a CSV to write beside the spec
    modality: str = "other"
    sided: bool = False


def corpus_part(tree: Tree, labels: Path) -> CorpusPart:
    """Ask the adapters, in their order; a table last.

    Args:
        labels: where a table made from folder names will be written.

    Raises:
        CorpusError: no images, or nothing that could be their labels.
    """
    fitting = guess(tree)
    if fitting and fitting[0] == "hyper-kvasir":
        lines = ["  task: single", said("  # classes: [polyps, cecum]", "default: every Finding that has images")]
        below = within(tree, "labeled-images") or tree
        split = [
            said(f"    # official: {name}", "the official folds; then test_fold is the test split")
            for name in ("2_fold_split.csv", "5_fold_split.csv")
            if any(table_exists(t, p) for t in (tree, below) for p in (name, f"official_splits/{name}"))
        ]
        guesses = ["patients: Hyper-Kvasir names none; splits are by image"]
        return CorpusPart(*fitting, lines, split, guesses, modality="endoscopy")
    if fitting and fitting[0] == "eyepacs":
        lines = [said("  task: ordinal", "grades 0 to 4 have an order")]
        return CorpusPart(*fitting, lines, [], ["patients: the number before _left and _right"], modality="fundus")
    if fitting and fitting[0].startswith("phantom-"):
        marker = json.loads((within(tree, "phantom.json") or tree).read("phantom.json"))["parameters"]
        drawn = {k: v for k, v in marker.items() if k not in ("kind", "drawing")}
        lines = ["  phantom:                       # as it was drawn", *(f"    {k}: {v}" for k, v in drawn.items())]
        return CorpusPart(*fitting, lines, modality=fitting[0].removeprefix("phantom-"))
    return _table(look(tree), labels)


def _table(found: Found, labels: Path) -> CorpusPart:
    label, who = found.label, found.patient
    csv = found.csv or str(labels)
    sentinels = sorted({s for c in (label, *found.others) for s in c.sentinels})
    lines = [
        said(f"  task: {label.task}", "ordinal: the classes have an order; multilabel: several at once"),
        f"  classes: {_classes(label)}",
        "  table:",
        f"    csv: {quoted(csv)}",
        said(f"    images: {quoted(found.within)}", "folder of the images, searched below"),
        f"    image: {quoted(found.image)}",
        f"    label: {quoted(label.column)}",
        *(
            said(f"    # label: {quoted(o.column)}", f"with task: {o.task}, classes: {_classes(o)}; {o}")
            for o in found.others[:4]
        ),
    ]
    if label.task == "multilabel":
        lines.append(f"    label_separator: {json.dumps(label.separator)}")
        none = quoted(label.negative) if label.negative else "null"
        lines.append(said(f"    negative: {none}", "the value that means none of the classes"))
    unlabelled = ", ".join(json.dumps(w, ensure_ascii=False) for w in sentinels)
    lines.append(said(f"    unlabelled: [{unlabelled}]", "values that mean unlabelled; blank always does"))
    if who.column:
        lines.append(f"    patient: {quoted(who.column)}")
    elif who.pattern:
        lines.append(said(f"    patient_pattern: {json.dumps(who.pattern)}", "on the image's name; or patient: COLUMN"))
    else:
        lines.append(said("    # patient: COLUMN", "or patient_pattern; without, each image is a patient of its own"))
    if found.split:
        lines.append(f"    split: {quoted(found.split)}")
    if found.split_lists:
        lines += ["    split_lists:", *(f"      {s}: {quoted(f)}" for s, f in sorted(found.split_lists.items()))]
    reason = f"{found.csv} names the images" if found.csv else "one folder for each class"
    made = CorpusPart("table", reason, lines, modality=found.modality, notes=list(found.notes), table=found.text)
    made.sided = any(formatting.SIDED.search(c) for c in label.counts)
    made.guesses = [f"label: column {label.column!r} ({label})", f"patients: {who.why}"]
    if found.others:
        others = "; ".join(f"{o.column!r} ({o})" for o in found.others[:4])
        made.guesses.insert(1, f"other columns that could be the label: {others}")
    if found.text:
        made.notes.append(f"the labels were read off the folders and written to {csv}")
    return made


def _classes(label: Label) -> str:
    return f"[{', '.join(quoted(c) for c in label.counts)}]"
