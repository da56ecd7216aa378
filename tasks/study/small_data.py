"""The study of small sets (paper 3, arXiv 2008.13574): attention transfer against transfer learning and scratch.

Constants are those of the code of the paper's first author (Attention_transfer, later than the preprint, which need not
be the paper's): weight 1/5 of the attention loss with a teacher of the same domain, at batches of 24 and 32 channels.
There the loss grows with batch and channels; here it is divided by sqrt(batch * channels), and 1/5 becomes
1/5 * sqrt(24 * 32) = 5.5, so that the pull is the published one at any batch and tap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import SpecError
from tasks.data.weights import PYPI
from tasks.spec.arms import TAUGHT
from tasks.study.design import FROM_TEACHER, Base, Cell, Condition, Contrast, Study, chosen_arms

CLAIM = (
    "On small sets a student that follows a teacher's attention is better than transfer learning with frozen early "
    "layers: AUC +4 % on CheXpert (n = 5,000) and +9 % on ChestX-ray8 (n = 5,600), with less over-fitting (abstract of "
    "arXiv 2008.13574)."
)
NOTES = (
    "Not known to us, since the abstract and the author's later code do not say it: the retinopathy task, how n images "
    "were drawn, the settings of ChestX-ray8, tables and the number of repeats. Here n counts patients.",
    "The teacher of the same domain was trained on all training labels of this corpus, those that the students do not "
    "see included; the author's was trained on another corpus (MIMIC-CXR).",
    "The teacher of another domain has ImageNet weights that never learn; its features alone are read. The linear "
    "layer on them, which the line asks of every teacher, is fitted to the condition's labels and teaches nothing.",
)
NO_IMAGENET = (
    "A teacher of another domain (ImageNet) is not among the arms: no such weights of the student's network are known; "
    "name a network by study.imagenet.",
)
WEIGHT = 0.2 * (24 * 32) ** 0.5
IMAGENET_WEIGHT = 0.001 * (24 * 32) ** 0.5
"""The author's 1/1000 with a teacher of ImageNet, on the same scale."""
FROZEN = {
    # The first nine children of `features`, which the author's baseline freezes.
    "densenet121": [
        *("features.conv0", "features.norm0", "features.denseblock1", "features.transition1", "features.denseblock2"),
        *("features.transition2", "features.denseblock3"),
    ],
    "tf_efficientnet_lite0": ["conv_stem", "bn1", "blocks.0", "blocks.1"],
}
"""Modules that transfer learning freezes, by network."""

BACKBONES = {
    **{f"tf_efficientnet_lite{number}": ["conv_stem", "bn1", "blocks", "conv_head", "bn2"] for number in range(3)},
    "densenet121": ["features"],
}
"""All of a network but its classifier."""

IMAGENET, PROBE_STEPS = "imagenet", 100
PAPER_SIZES = (5000, 5600)
"""Images of the paper's sets, of CheXpert and of ChestX-ray8."""
_SUFFIX = "-imagenet"
TRANSFER, TUNED, SCRATCH, KD, FROM_SCRATCH = "transfer", "fine-tune", "scratch", "kd", "attention-scratch"
TITLES = {
    TAUGHT: "attention transfer",
    TRANSFER: "transfer learning, early layers frozen",
    TUNED: "fine-tuning of all layers",
    SCRATCH: "random start, labels alone",
    KD: "labels and soft labels",
    FROM_SCRATCH: "attention transfer from a random start",
    "teacher-start-transfer": "from the teacher's weights, early layers frozen",
    "teacher-start": "from the teacher's weights, all layers",
    "teacher-start-attention": "from the teacher's weights, attention transfer",
}
IMAGENET_TITLES = {IMAGENET: "attention transfer", "imagenet-scratch": "attention transfer from a random start"}
DEFAULT = (TAUGHT, TRANSFER, TUNED, SCRATCH, KD, FROM_SCRATCH, IMAGENET)


def small_data(base: Base, wanted: Sequence[str] = ()) -> Study:
    """The study on a spec.

    Args:
        wanted: arms; none: those of `DEFAULT` that the spec has.

    Raises:
        SpecError: no teacher is trained, the student begins at random, nobody says what is frozen, or an arm is
            unknown.
    """
    if not any(teacher.train is not None for teacher in base.spec.teachers):
        raise SpecError(f"{base.where}: teachers: none has `train:`; one is trained on all labels first")
    if base.spec.student.weights is None:
        raise SpecError(
            f"{base.where}: student.weights: transfer learning begins with pretrained weights, and these are null"
        )
    known = {**_arms(base), **_imagenet_arms(base)}
    default = [name for name in DEFAULT if name in known]
    arms = chosen_arms(known, wanted, (TAUGHT, TRANSFER), default)
    conditions = []
    for count in sorted(base.section.patients):
        conditions += _conditions(base, count, arms)
    first = Contrast(Cell(conditions[0].name, TAUGHT), Cell(conditions[0].name, TRANSFER))
    others = [
        Contrast(Cell(each.name, arm), Cell(each.name.removesuffix(_SUFFIX), TRANSFER))
        for each in conditions
        for arm in each.arms
        if arm != TRANSFER and (each.name, arm) != (first.cell.condition, first.cell.arm)
    ]
    titles = {**TITLES, **{name: title for name, title in IMAGENET_TITLES.items() if name != IMAGENET}}
    return Study(
        kind="small-data",
        paper="arXiv 2008.13574",
        claim=CLAIM,
        conditions=conditions,
        titles={name: title for name, title in titles.items() if name in arms},
        primary=first,
        contrasts=others,
        notes=[
            *NOTES[:2],
            *_size(base),
            *(NOTES[2:] if any(each.own_teachers for each in conditions) else NO_IMAGENET),
        ],
        teachers_first=True,
    )


def _size(base: Base) -> list[str]:
    most = max(base.section.patients)
    if most >= PAPER_SIZES[0]:
        return []
    return [
        f"The paper's sets have {PAPER_SIZES[0]:,} and {PAPER_SIZES[1]:,} images; the largest here has {most:,} "
        "patients."
    ]


def _conditions(base: Base, count: int, arms: Mapping[str, Mapping[str, Any]]) -> list[Condition]:
    """So many patients with the teachers of the spec; and, where it is among the arms, with that of ImageNet."""
    least = {} if base.section.least is None else {"least": base.section.least}
    labels = {"labels": {"patients": count, "others": "left_out", "pool": 0.0, **least}}
    name, title = f"patients-{count}", f"{count:,} patients"
    other = {arm: keys for arm, keys in arms.items() if arm in IMAGENET_TITLES}
    same = {arm: keys for arm, keys in arms.items() if arm not in other}
    found = [Condition(name, title, labels, same)]
    if other:
        # Each condition has an arm `taught`, which decides what the others inherit.
        students = {TAUGHT: _imagenet_arms(base)[IMAGENET], **{arm: k for arm, k in other.items() if arm != IMAGENET}}
        change = {**labels, "teachers": [_imagenet_teacher(base)]}
        found.append(Condition(f"{name}{_SUFFIX}", f"{title}, ImageNet teacher", change, students, own_teachers=True))
    return found


def _imagenet_arms(base: Base) -> dict[str, dict[str, Any]]:
    """Arms with a teacher of ImageNet; none where no such weights are known of the student's network."""
    teacher = _imagenet_teacher(base)
    if teacher is None:
        return {}
    term = _attention(base, [teacher], IMAGENET_WEIGHT)
    online = {**_alone(base), "teacher": "online", "loss": [*base.labels, term]}
    return {IMAGENET: online, "imagenet-scratch": {**online, "weights": None}}


def _imagenet_teacher(base: Base) -> dict[str, Any] | None:
    """`study.imagenet`, or the student's own network, whole, with the weights of its PyPI package."""
    section, student = dict(base.section.imagenet or {}), base.spec.student
    model = str(section.get("model", student.model))
    frozen = section.pop("freeze", BACKBONES.get(model))
    if not section and (frozen is None or student.weights != PYPI):
        return None
    if frozen is None:
        raise SpecError(f"{base.where}: study.imagenet.freeze: say which modules of {model} are all but its classifier")
    size = {} if student.size is None else {"size": student.size}
    train = {"steps": min(PROBE_STEPS, base.section.steps), "lr": 0.01, "freeze": list(frozen)}
    return {"name": IMAGENET, "model": model, "weights": PYPI, **size, **section, "train": train}


def _alone(base: Base) -> dict[str, Any]:
    """The student on labels alone."""
    network = {**base.network(), "targets": "view", "teacher": "stored", "pool": "labelled"}
    return {**network, "train": base.train(base.section.steps), "loss": base.labels}


def _arms(base: Base) -> dict[str, dict[str, Any]]:
    frozen = base.section.freeze or FROZEN.get(base.spec.student.model)
    if not frozen:
        raise SpecError(
            f"{base.where}: study.freeze: say which modules of {base.spec.student.model} transfer learning freezes"
        )
    alone = _alone(base)
    early = {**alone["train"], "freeze": list(frozen)}
    terms = [term.model_dump(mode="json", exclude_unset=True) for term in base.section.attention or []]
    teachers = [{"model": each.model, "cut": each.cut, "head": each.head} for each in base.spec.teachers]
    online = {
        **alone,
        "teacher": "online",
        "loss": [*base.labels, *(terms or [_attention(base, teachers, WEIGHT)])],
    }
    arms = {
        TAUGHT: online,
        TRANSFER: {**alone, "train": early},
        TUNED: alone,
        SCRATCH: {**alone, "weights": None},
        KD: {**alone, "loss": [*base.labels, base.soft]},
        FROM_SCRATCH: {**online, "weights": None},
    }
    student = base.spec.student
    own = (student.model, student.cut, student.head)
    like = next((t for t in base.spec.teachers if t.train is not None and (t.model, t.cut, t.head) == own), None)
    if like is not None:
        start = {"weights": f"{FROM_TEACHER}{like.name}"}
        arms |= {
            "teacher-start-transfer": {**alone, "train": early, **start},
            "teacher-start": {**alone, **start},
            "teacher-start-attention": {**online, **start},
        }
    return arms


def _attention(base: Base, teachers: Sequence[Mapping[str, Any]], weight: float) -> dict[str, Any]:
    """The author's loss where student and teachers are of one architecture; else that of channels together."""
    student = base.spec.student
    own = (student.model, student.cut, student.head)
    if all((each["model"], each.get("cut"), each.get("head")) == own for each in teachers):
        return {"loss": "attention_channels", "weight": weight, "options": {"scale_free": True}}
    return {"loss": "attention", "weight": 1000.0}
