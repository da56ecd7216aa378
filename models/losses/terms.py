"""Names, sources and defaults of loss terms, without torch: keys are computed where torch is not imported.

A term reads one of three inputs: `labels`, the `logits` of teachers, or `maps`, features of student and teachers.

The loss of an image on labels or logits is that of one softmax, or the mean over its yes-or-no outputs: the classes of
a multilabel corpus, of which labels count where they are known, or the C - 1 thresholds of grades. A teacher as sure as
the label then costs what the label costs (`kl` beside `cross_entropy`, `soft_binary` beside `binary`, `cumulative_kl`
beside `cumulative`), so weight 1 of both balances them whatever the number of outputs. MLD (2308.06453) sums over
classes instead: its weight 10 is 10 C here. The batch takes the mean over its images, as METHODS writes all of them.

Most published weights of map losses were tuned on CIFAR with that loss alone; they do not transfer to other networks
and other images. Such a term is rescaled by default: see `Term.rescale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

Reads = Literal["labels", "logits", "maps"]
Where = Literal["all", "labelled", "unlabelled"]
Sharing = Literal["average", "entropy", "confidence", "aekd"]

ANY = ("single", "ordinal", "multilabel")
SOFTMAX = ("single", "ordinal")


@dataclass(frozen=True)
class Loss:
    """Facts of a loss that are known before training.

    Attributes:
        reads: what it needs in addition to the student's logits.
        source: paper, and the equation or code that the formula follows.
        tasks: the kinds of corpora that it supports.
        temperature: default; None: it has none.
        published: weight that its authors used.
        cifar: whether that weight (or an option) was tuned on CIFAR.
        options: its own keyword arguments with their defaults.
        stages: it reads the maps of several stages; False: one tap.
        default_tap: of student and teacher where the spec gives none: pooled, features or stages.
        whole_batch: its value depends on which samples come in one batch; False: a sum over samples. Of dist: the part
            over the images of a class.
        inside: what it adds to the student at inference; "": nothing.
    """

    reads: Reads
    source: str
    tasks: tuple[str, ...] = ANY
    temperature: float | None = None
    published: float = 1.0
    cifar: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    stages: bool = False
    default_tap: str = ""
    whole_batch: bool = False
    inside: str = ""


def _options(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        # On labels.
        "cross_entropy": Loss("labels", "softmax cross-entropy", SOFTMAX),
        "logit_adjusted": Loss(
            "labels", "Menon et al. 2021, 2007.07314", ("single", "ordinal"), options=_options(tau=1.0)
        ),
        "binary": Loss("labels", "binary cross-entropy, mean over the known classes", ("multilabel",)),
        "cumulative": Loss("labels", "cumulative logits, McCullagh 1980", ("ordinal",)),
        "squared_grade": Loss("labels", "squared error of the expected grade; cf. Huang et al. 2023", ("ordinal",)),
        # On teachers' logits.
        "kl": Loss("logits", "Hinton et al. 2015, 1503.02531", SOFTMAX, 1.0, published=0.9, cifar=True),
        "dkd": Loss(
            "logits",
            "Zhao et al. 2022, 2203.08679",
            SOFTMAX,
            1.0,
            cifar=True,
            options=_options(alpha=1.0, beta=2.0),
        ),
        "dist": Loss(
            "logits",
            "Huang et al. 2022, 2205.10536",
            SOFTMAX,
            1.0,
            published=2.0,
            options=_options(beta=1.0, gamma=1.0),
            whole_batch=True,
        ),
        "logit_mse": Loss("logits", "Ba and Caruana 2014, 1312.6184", ANY),
        "soft_cross_entropy": Loss("logits", "cross-entropy of soft targets", SOFTMAX, 1.0),
        "soft_binary": Loss("logits", "Yang et al. 2023, 2308.06453, mean over classes", ("multilabel",)),
        "cumulative_kl": Loss("logits", "binary KL of every cumulative logit", ("ordinal",), 1.0),
        "grade_mse": Loss("logits", "squared difference of the expected grades", ("ordinal",)),
        "ofa": Loss(
            "logits",
            "Hao et al. 2023, 2310.19444",
            SOFTMAX,
            1.0,
            options=_options(epsilon=1.5),
            stages=True,
            default_tap="stages",
        ),
        # On features.
        "fitnets": Loss("maps", "Romero et al. 2015, 1412.6550", published=100.0, cifar=True, default_tap="features"),
        "attention": Loss(
            "maps",
            "Zagoruyko and Komodakis 2017, 1612.03928",
            published=1000.0,
            cifar=True,
            options=_options(power=2.0),
            stages=True,
            default_tap="stages",
        ),
        "attention_channels": Loss(
            "maps",
            "paper 3 (2008.13574), from its first author's later code",
            published=0.2,
            options=_options(scale_free=False),
            default_tap="features",
            whole_batch=True,
        ),
        "similarity": Loss(
            "maps",
            "Tung and Mori 2019, 1907.09682",
            published=3000.0,
            cifar=True,
            default_tap="features",
            whole_batch=True,
        ),
        "pkt": Loss(
            "maps",
            "Passalis and Tefas 2018, 1803.10837",
            published=30000.0,
            cifar=True,
            default_tap="pooled",
            whole_batch=True,
        ),
        "vid": Loss(
            "maps",
            "Ahn et al. 2019, 1904.05835",
            cifar=True,
            options=_options(variance=5.0),
            default_tap="features",
        ),
        "rkd": Loss(
            "maps",
            "Park et al. 2019, 1904.05068",
            cifar=True,
            options=_options(distance=25.0, angle=50.0),
            default_tap="pooled",
            whole_batch=True,
        ),
        "crd": Loss(
            "maps",
            "Tian et al. 2020, 1910.10699",
            published=0.8,
            cifar=True,
            options=_options(width=128, negatives=16384, tau=0.07, momentum=0.5),
            default_tap="pooled",
            whole_batch=True,
        ),
        "review": Loss(
            "maps",
            "Chen et al. 2021, 2104.09044",
            cifar=True,
            options=_options(width=64),
            stages=True,
            default_tap="stages",
        ),
        "simkd": Loss(
            "maps",
            "Chen et al. 2022, 2203.14001",
            options=_options(factor=2),
            default_tap="features",
            inside="the teacher's classifier, behind a projector",
        ),
        "fusion": Loss(
            "maps",
            "paper 2 (2308.08731), our reading",
            options=_options(
                width=64, heads=4, query="teachers", feed_forward=False, distance="mse", tokens="pooled", grid=4
            ),
            default_tap="pooled",
        ),
    }
)
"""Every loss, by the name that a spec uses."""

LOGIT_DISTANCES = ("kl", "dkd", "dist", "soft_cross_entropy", "logit_mse", "cumulative_kl", "soft_binary", "grade_mse")
"""Terms that a rescaled term is measured against: the first of these with a weight in an objective."""


@dataclass(frozen=True)
class Term:
    """One term of an objective; `models.losses` holds the formulas.

    Attributes:
        loss: a name of `LOSSES`.
        weight: factor of the term. Of a rescaled term: its gradient norm relative to that of the first distillation
            term with its weight.
        temperature: of losses that have one.
        where: samples that the term uses.
        smoothing: of label losses.
        standardise: z-score both logits first (2403.01427); for losses on logits.
        teachers: how the losses against several teachers are weighted.
        teacher: use only this teacher; "": all.
        student_taps: module paths of the student, or pooled, features, stages; empty: the loss's default.
        teacher_taps: the same of the teacher.
        start: share of the training after which the term starts.
        ramp: share of the training over which its weight rises linearly from there.
        end: share of the training at which it ends.
        rescale: divide by the ratio of gradient norms, measured over the first steps, so that `weight: 1` gives the
            gradient norm of the objective's first distillation term, that term's weight included.
        options: the loss's own keyword arguments, which override those of `LOSSES`.
    """

    loss: str
    weight: float = 1.0
    temperature: float = 1.0
    where: Where = "all"
    smoothing: float = 0.0
    standardise: bool = False
    teachers: Sharing = "average"
    teacher: str = ""
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    start: float = 0.0
    ramp: float = 0.0
    end: float = 1.0
    rescale: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def info(self) -> Loss:
        """The facts of its loss."""
        return LOSSES[self.loss]

    @property
    def needs_teacher(self) -> bool:
        """Whether it reads logits or features of a teacher."""
        return self.info.reads != "labels"

    @property
    def needs_maps(self) -> bool:
        """Whether it reads features of a teacher."""
        return self.info.reads == "maps"

    @property
    def needs_whole_batch(self) -> bool:
        """Whether its value depends on which samples come in one batch."""
        if self.loss == "dist" and not full_options(self)["gamma"]:
            return False
        return self.info.whole_batch or self.teachers == "aekd"

    def factor(self, done: float) -> float:
        """Its schedule: a factor from 0 to 1 when the share `done` (0 to 1) of the training is done."""
        if done < self.start or done >= self.end:
            return 0.0
        return 1.0 if self.ramp <= 0 else min(1.0, (done - self.start) / self.ramp)


def full_options(term: Term) -> dict[str, Any]:
    """The options of a term's loss with its defaults.

    Raises:
        ValueError: an option that the loss does not have; those it has are named.
    """
    known = term.info.options
    for name in term.options:
        if name not in known:
            raise ValueError(f"{term.loss} has no option {name!r}; it has {', '.join(known) or 'none'}")
    return {**known, **term.options}


def check_classes(term: Term, classes: int) -> None:
    """Refuse what has no gradient between fewer than three classes.

    The correlation of two vectors of two elements is 1 or -1, and their z-scores are 1 and -1, whatever the elements.

    Raises:
        ValueError: dist with its part over the classes of an image, or `standardise`; the text says what to take.
    """
    if classes > 2:
        return
    if term.loss == "dist" and full_options(term)["beta"]:
        raise ValueError(
            f"dist: the correlation over the classes of an image is always 1 or -1 with {classes} of them and teaches "
            "nothing; take kl, or keep only the part over the images of a class with `options: {beta: 0}`"
        )
    if term.standardise:
        raise ValueError(
            f"{term.loss}: `standardise` turns the logits of {classes} classes into 1 and -1 and leaves nothing to "
            "learn from; leave it out"
        )


def default_terms(task: str, *, taught: bool) -> list[Term]:
    """Labels alone, or labels plus soft labels at temperature 1 (CIFAR's 4 does not transfer).

    Graded corpora take cumulative logits. Long tails, endoscopy's too, get no adjustment of the logits: it raises
    balanced accuracy at the cost of macro-F1 and MCC, and the metric decides what is wanted.
    """
    if task == "multilabel":
        on_labels, on_teacher = Term("binary"), Term("soft_binary")
    elif task == "ordinal":
        on_labels, on_teacher = Term("cumulative"), Term("cumulative_kl")
    else:
        on_labels, on_teacher = Term("cross_entropy"), Term("kl")
    on_labels = replace(on_labels, where="labelled")
    return [on_labels, on_teacher] if taught else [on_labels]


def to_plain(term: Term) -> dict[str, Any]:
    """A term as JSON; fields at their default are left out, so that a new field changes no key."""
    default = Term(term.loss)
    values = {one.name: getattr(term, one.name) for one in fields(Term)}
    kept = {name: value for name, value in values.items() if name == "loss" or value != getattr(default, name)}
    return {name: list(v) if isinstance(v, tuple) else dict(v) if name == "options" else v for name, v in kept.items()}
