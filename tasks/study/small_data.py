"""The study of small sets (paper 3, arXiv 2008.13574): attention transfer against transfer learning and scratch.

Constants are those of the code of the paper's first author (Attention_transfer, later than the preprint, which need not
be the paper's): weight 1/5 of the attention loss with a teacher of the same domain, at batches of 24 and 32 channels.
There the loss grows with batch and channels; here it is divided by sqrt(batch * channels), and 1/5 becomes
1/5 * sqrt(24 * 32) = 5.5, so that the pull is the published one at any batch and tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.errors import SpecError
from tasks.spec.arms import TAUGHT
from tasks.study.design import Base, Cell, Condition, Contrast, Study, chosen_arms

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
    "A teacher of another domain (ImageNet) is not among the arms: its start is, since student.weights may name it.",
)
WEIGHT = 0.2 * (24 * 32) ** 0.5
FROZEN = {
    # The first nine children of `features`, which the author's baseline freezes.
    "densenet121": [
        *("features.conv0", "features.norm0", "features.denseblock1", "features.transition1", "features.denseblock2"),
        *("features.transition2", "features.denseblock3"),
    ],
    "tf_efficientnet_lite0": ["conv_stem", "bn1", "blocks.0", "blocks.1"],
}
"""Modules that transfer learning freezes, by network."""

TRANSFER, TUNED, SCRATCH, KD, FROM_SCRATCH = "transfer", "fine-tune", "scratch", "kd", "attention-scratch"
TITLES = {
    TAUGHT: "attention transfer",
    TRANSFER: "transfer learning, early layers frozen",
    TUNED: "fine-tuning of all layers",
    SCRATCH: "random start, labels alone",
    KD: "labels and soft labels",
    FROM_SCRATCH: "attention transfer from a random start",
}


def small_data(base: Base, wanted: Sequence[str] = ()) -> Study:
    """The study on a spec.

    Args:
        wanted: arms; none: all.

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
    arms = chosen_arms(_arms(base), wanted, (TAUGHT, TRANSFER), list(TITLES))
    conditions = [_condition(base, count, arms) for count in sorted(base.section.patients)]
    first = Contrast(Cell(conditions[0].name, TAUGHT), Cell(conditions[0].name, TRANSFER))
    others = [
        Contrast(Cell(each.name, arm), Cell(each.name, TRANSFER))
        for each in conditions
        for arm in arms
        if arm != TRANSFER and (each.name, arm) != (first.cell.condition, first.cell.arm)
    ]
    return Study(
        kind="small-data",
        paper="arXiv 2008.13574",
        claim=CLAIM,
        conditions=conditions,
        titles={name: TITLES[name] for name in arms},
        primary=first,
        contrasts=others,
        notes=list(NOTES),
        teachers_first=True,
    )


def _condition(base: Base, count: int, arms: Any) -> Condition:
    least = {} if base.section.least is None else {"least": base.section.least}
    labels = {"patients": count, "others": "left_out", "pool": 0.0, **least}
    return Condition(f"patients-{count}", f"{count:,} patients", {"labels": labels}, arms)


def _arms(base: Base) -> dict[str, dict[str, Any]]:
    network = {**base.network(), "targets": "view", "teacher": "stored", "pool": "labelled"}
    train = base.train(base.section.steps)
    frozen = base.section.freeze or FROZEN.get(base.spec.student.model)
    if not frozen:
        raise SpecError(
            f"{base.where}: study.freeze: say which modules of {base.spec.student.model} transfer learning freezes"
        )
    alone = {**network, "train": train, "loss": base.labels}
    terms = [term.model_dump(mode="json", exclude_unset=True) for term in base.section.attention or []]
    online = {**alone, "teacher": "online", "loss": [*base.labels, *(terms or [_attention(base)])]}
    return {
        TAUGHT: online,
        TRANSFER: {**alone, "train": {**train, "freeze": list(frozen)}},
        TUNED: alone,
        SCRATCH: {**alone, "weights": None},
        KD: {**alone, "loss": [*base.labels, base.soft]},
        FROM_SCRATCH: {**online, "weights": None},
    }


def _attention(base: Base) -> dict[str, Any]:
    """The author's loss where student and teachers are of one architecture; else that of channels together."""
    student = base.spec.student
    own = (student.model, student.cut, student.head)
    if all((teacher.model, teacher.cut, teacher.head) == own for teacher in base.spec.teachers):
        return {"loss": "attention_channels", "weight": WEIGHT, "options": {"scale_free": True}}
    return {"loss": "attention", "weight": 1000.0}
