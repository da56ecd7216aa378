"""The study of unlabelled data (paper 1, arXiv 2009.00982): transfer from a teacher's outputs, then fine-tuning.

The full text of the paper was not read: its networks, its loss on unlabelled images, temperature, splits and figures
are not known to us. The arms follow its abstract [our reading].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.errors import SpecError
from tasks.spec.arms import TAUGHT
from tasks.study.checks import has_pool
from tasks.study.design import Base, Cell, Condition, Contrast, Study, chosen_arms

CLAIM = (
    "Small models become significantly better where unlabelled images, through the outputs of a larger teacher, teach "
    "them before they are fine-tuned on labels (abstract of arXiv 2009.00982; it gives no figures)."
)
OPEN = (
    "Not known to us, since we have not read the full paper: its teacher and students, the loss on unlabelled images "
    "(here `study.transfer`), temperature and weights, image size, augmentation, splits, metrics and figures.",
)
NO_POOL = (
    "Every training image has a label: at 100 % of the labels the transfer is from the labelled images, and shows what "
    "its order of losses does, not what unlabelled images add.",
)
LABELS, LABELLED, TRANSFER_KD, JOINT, CAPACITY = "labels", "kd_labelled", "transfer_kd", "joint", "capacity"
TITLES = {
    LABELS: "labels alone",
    LABELLED: "distillation on the labelled images",
    TAUGHT: "transfer from unlabelled images, then labels",
    TRANSFER_KD: "transfer, then labels and distillation",
    JOINT: "labels and distillation on all images at once",
    CAPACITY: "the teacher's network, taught alike",
}
_DEFAULT = (LABELS, LABELLED, TAUGHT, TRANSFER_KD, CAPACITY)


def unlabeled(base: Base, wanted: Sequence[str] = ()) -> Study:
    """The study on a spec.

    Args:
        wanted: arms; none: labels, kd_labelled, taught (the transfer), transfer_kd and capacity.

    Raises:
        SpecError: no teacher is trained, or an arm is unknown.
    """
    if not any(teacher.train is not None for teacher in base.spec.teachers):
        raise SpecError(
            f"{base.where}: teachers: none has `train:`; a teacher of this study sees the labels of its condition alone"
        )
    pool = has_pool(base)
    if not pool and min(base.section.shares) == 1:
        raise SpecError(
            f"{base.where}: arm {TAUGHT}: study.shares: at 100 % of the labels there is no unlabelled image to "
            "transfer from; add a smaller share, a corpus with unlabelled images, or a second one under corpora with "
            "use: pool"
        )
    known = _arms(base, base.network())
    arms = dict(chosen_arms(known, wanted, (LABELS, TAUGHT), _DEFAULT))
    titles = {name: TITLES[name] for name in arms}
    main = list(arms)
    for student, keys in base.section.students.items():
        for name, own in _arms(base, base.network(keys)).items():
            if name in main and name != CAPACITY:
                full = f"{student}-{_own_name(name)}"
                arms[full] = own
                titles[full] = f"{student}: {TITLES[name]}"
    conditions = [_condition(base, share, arms) for share in sorted(base.section.shares)]
    students = ["", *(f"{name}-" for name in base.section.students)]
    contrasts = [
        Contrast(Cell(condition.name, arm), Cell(condition.name, f"{student}{LABELS}"))
        for condition in conditions
        for student in students
        for arm in arms
        if arm != f"{student}{LABELS}" and _student_of(arm, base.section.students) == student
    ]
    first = Contrast(Cell(conditions[0].name, TAUGHT), Cell(conditions[0].name, LABELS))
    return Study(
        kind="unlabeled",
        paper="arXiv 2009.00982",
        claim=CLAIM,
        conditions=conditions,
        titles=titles,
        primary=first,
        contrasts=[each for each in contrasts if each != first],
        notes=[*OPEN, *(NO_POOL if not pool and max(base.section.shares) == 1 else [])],
    )


def _own_name(name: str) -> str:
    return "transfer" if name == TAUGHT else name


def _student_of(arm: str, students: Mapping[str, Any]) -> str:
    return next((f"{name}-" for name in students if arm.startswith(f"{name}-")), "")


def _condition(base: Base, share: float, arms: Mapping[str, Mapping[str, Any]]) -> Condition:
    percent = f"{100 * share:g}"
    least = {} if base.section.least is None else {"least": base.section.least}
    # The whole set is not a subset: its stages are those of any other run.
    labels = None if share == 1 else {"share": share, **least}
    return Condition(f"labels-{percent.replace('.', '_')}", f"{percent} % of the labels", {"labels": labels}, arms)


def _arms(base: Base, network: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    steps = base.section.steps
    before = round(base.section.transfer_share * steps)
    losses = base.section.transfer
    transfer = {
        "name": "transfer",
        "labels": False,
        "train": base.train(before),
        **({"loss": [term.model_dump(mode="json", exclude_unset=True) for term in losses]} if losses else {}),
    }
    tuned = {"name": "fine-tune", "pool": "labelled", "train": base.train(steps - before)}
    both = [*base.labels, base.soft]
    teacher = next(teacher for teacher in base.spec.teachers if teacher.train is not None)
    larger = {
        **{key: network[key] for key in ("targets", "teacher") if key in network},
        **{"model": teacher.model, "weights": teacher.weights, "options": dict(teacher.options)},
        **({"size": teacher.size} if teacher.size is not None else {}),
        **({"cut": teacher.cut} if teacher.cut is not None else {}),
        **({"head": teacher.head} if teacher.head is not None else {}),
    }
    whole = {"train": base.train(steps)}
    return {
        TAUGHT: {**network, "phases": [transfer, {**tuned, "loss": base.labels}]},
        LABELS: {**network, **whole, "pool": "labelled", "loss": base.labels},
        LABELLED: {**network, **whole, "pool": "labelled", "loss": both},
        TRANSFER_KD: {**network, "phases": [transfer, {**tuned, "loss": both}]},
        JOINT: {**network, **whole, "loss": both},
        CAPACITY: {**larger, **whole, "loss": both},
    }
