"""What a study compares: conditions, arms in each, the primary contrast; and how specs are made of them.

A condition is a spec of its own: the same line runs it, so that conditions share every stage whose inputs are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from infra.errors import SpecError
from tasks.spec import Spec
from tasks.spec.arms import TAUGHT
from tasks.spec.load import parse_spec
from tasks.spec.study import StudySection

_NETWORK = ("model", "weights", "cut", "head", "options", "size", "targets", "teacher")
_NONE: dict[str, Any] = {
    **dict.fromkeys(("weights", "cut", "head", "size", "phases", "loss")),
    **{"options": {}, "pool": "all", "labels": True, "targets": "view", "teacher": "stored"},
}
FROM_TEACHER = "teacher:"
"""How `student.weights` names a teacher of the spec."""
_OF_TRAINING = ("train", "members", "folds", "average", "seed", "require_better")
_LENGTH = ("steps", "epochs", "min_steps", "max_steps")


@dataclass(frozen=True)
class Cell:
    """One arm in one condition."""

    condition: str
    arm: str


@dataclass(frozen=True)
class Contrast:
    """An arm against its baseline, in the same or in another condition."""

    cell: Cell
    baseline: Cell


@dataclass(frozen=True)
class Condition:
    """One spec of a study.

    Attributes:
        name: for people and files, such as labels-5.
        title: for the table.
        change: keys of the base spec that have other values; None removes a key.
        arms: name of each arm of students to the keys of `student:` that it has; one is `taught`.
        own_teachers: `change` names its teachers, which are trained here also where those of the spec were before.
    """

    name: str
    title: str
    change: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    own_teachers: bool = False


@dataclass(frozen=True)
class Study:
    """A study before it runs.

    Attributes:
        kind: unlabeled, guidance or small-data.
        claim: what the paper says.
        titles: of the arms, for the table.
        primary: named before anything runs, and told first.
        contrasts: the others; their p values are corrected together.
        notes: what the paper leaves open, and what the data at hand cannot show.
        teachers_first: teachers are trained on all labels before, and used as they are in every condition.
        budget: parameters of the paper's student; None: not known.
    """

    kind: str
    paper: str
    claim: str
    conditions: Sequence[Condition]
    titles: Mapping[str, str]
    primary: Contrast
    contrasts: Sequence[Contrast]
    notes: Sequence[str] = field(default_factory=list)
    teachers_first: bool = False
    budget: int | None = None


@dataclass(frozen=True)
class Base:
    """The spec that a study is made around.

    Attributes:
        raw: of its file, overrides applied, before it is checked.
        where: the file, for messages.
        folder: that relative paths are taken from.
        spec: the same, checked.
        task, classes: of its corpus.
        labels: the loss on labels of the task.
        rows: tables of the corpus, schema `tasks.corpora.scan.ROWS`; None where several corpora form the training set.
    """

    raw: Mapping[str, Any]
    where: str
    folder: Path
    spec: Spec
    task: str
    classes: Sequence[str]
    rows: pa.Table | None = None

    @property
    def section(self) -> StudySection:
        """`study:`"""
        return self.spec.study or StudySection()

    @property
    def labels(self) -> list[dict[str, Any]]:
        """`student.loss` of the labels alone."""
        return [{"loss": {"multilabel": "binary", "ordinal": "cumulative"}.get(self.task, "cross_entropy")}]

    @property
    def soft(self) -> dict[str, Any]:
        """The term of `student.loss` on soft labels, of the task."""
        return {"loss": {"multilabel": "soft_binary", "ordinal": "cumulative_kl"}.get(self.task, "kl")}

    def network(self, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Keys of `student:` that say which network learns: the spec's, or another's."""
        student = self.raw["student"]
        if own is None:
            return {key: student[key] for key in _NETWORK if key in student}
        return {**{key: student[key] for key in ("targets", "teacher") if key in student}, **own}

    def train(self, steps: int, rate: float = 1.0, **more: Any) -> dict[str, Any]:
        """`student.train` with so many steps and a factor of its learning rates."""
        given = self.raw["student"].get("train", {})
        own = {key: value for key, value in given.items() if key not in _LENGTH}
        rates = {"lr": self.spec.student.train.lr, "backbone_lr": self.spec.student.train.backbone_lr}
        scaled = {key: value * rate for key, value in rates.items() if value is not None}
        # A few steps less change no length of a schedule, but the key of every training.
        return {**own, **scaled, "steps": steps, **more}

    def spec_of(
        self,
        condition: Condition,
        seeds: Sequence[int],
        rates: Mapping[str, float],
        weights: Mapping[str, str] | None = None,
        fold: int | None = None,
    ) -> Spec:
        """The spec of a condition.

        Args:
            fold: number of the fold whose patients are the test images; None: the corpus's own splits.
            rates: factor of the learning rates of each arm; 1 where there is none.
            weights: of teachers that were trained before, objects of the store by name; None: they are trained here.

        Raises:
            SpecError: it cannot be run; says the condition and the key.
        """
        arms = {name: self._rated(dict(keys), rates.get(name, 1.0)) for name, keys in condition.arms.items()}
        for keys in arms.values():
            start = str(keys.get("weights"))
            if weights is not None and start.startswith(FROM_TEACHER):
                keys["weights"] = f"store:{weights[start.removeprefix(FROM_TEACHER)]}"
        first = arms.pop(TAUGHT)
        # An arm inherits what it does not say, and here every arm says all that it has.
        arms = {name: {**{key: _NONE[key] for key in first if key in _NONE}, **own} for name, own in arms.items()}
        student = {**first, "seeds": list(seeds), "arms": arms}
        raw = self._folded(merged(self.raw, condition.change), fold)
        raw |= {"student": student, "name": f"{raw['name']}-{condition.name}"}
        raw["evaluate"] = {**raw.get("evaluate", {}), "compare": False}
        raw["teachers"] = (
            [{**teacher, "require_better": False} for teacher in raw["teachers"]]
            if weights is None or condition.own_teachers
            else self._trained(raw["teachers"], weights)
        )
        return parse_spec(yaml.safe_dump(raw), where=f"{self.where}, condition {condition.name}", base=self.folder)

    def whole(self, fold: int | None) -> Spec:
        """The spec itself, of a fold with its splits."""
        if fold is None:
            return self.spec
        raw = self._folded(self.raw, fold)
        return parse_spec(yaml.safe_dump(raw), where=f"{self.where}, fold {fold}", base=self.folder)

    @property
    def folds(self) -> list[int | None]:
        """Numbers of the folds; [None] without."""
        folds = self.section.folds
        return [None] if folds is None else list(range(2 if folds == "official" else folds))

    def fold_labels(self, fold: int | None) -> dict[str, Any]:
        """Keys of `labels:` of a fold."""
        return {} if fold is None else {"folds": self.section.folds, "fold": fold}

    def _folded(self, raw: Mapping[str, Any], fold: int | None) -> dict[str, Any]:
        if fold is None:
            return {**raw}
        labels = {**(raw.get("labels") or {}), **self.fold_labels(fold)}
        return {**raw, "labels": labels, "name": f"{self.spec.name}-fold-{fold}"}

    def _trained(self, teachers: Sequence[Mapping[str, Any]], weights: Mapping[str, str]) -> list[dict[str, Any]]:
        """The teachers, members of ensembles each by itself, with the weights that they were trained to."""
        raw = {teacher["name"]: teacher for teacher in teachers}
        found = []
        for teacher in self.spec.teachers:
            own = {key: value for key, value in raw[teacher.whole].items() if key not in _OF_TRAINING}
            if teacher.name in weights:
                own |= {"name": teacher.name, "weights": f"store:{weights[teacher.name]}"}
            found.append(own)
        return found

    def _rated(self, keys: dict[str, Any], rate: float) -> dict[str, Any]:
        if "train" in keys:
            keys["train"] = _scaled(keys["train"], rate)
        if "phases" in keys:
            keys["phases"] = [
                {**phase, "train": _scaled(phase["train"], rate)} if "train" in phase else phase
                for phase in keys["phases"]
            ]
        return keys


def _scaled(train: Mapping[str, Any], rate: float) -> dict[str, Any]:
    return {key: value * rate if key in ("lr", "backbone_lr") else value for key, value in train.items()}


def merged(raw: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with the values of `change`, mappings merged key by key; None removes a key."""
    out = dict(raw)
    for name, value in change.items():
        own = out.get(name)
        if value is None:
            out.pop(name, None)
        elif isinstance(own, Mapping) and isinstance(value, Mapping):
            out[name] = merged(own, value)
        else:
            out[name] = value
    return out


def chosen_arms(
    known: Mapping[str, Mapping[str, Any]], wanted: Sequence[str], always: Sequence[str], default: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """The arms of a study that are asked for.

    Args:
        known: all that it has.
        wanted: names, `all`, or none for the default.
        always: of the primary contrast.

    Raises:
        SpecError: there is no such arm; those that there are get named.
    """
    names = list(known) if "all" in wanted else list(wanted) or list(default)
    for name in names:
        if name not in known:
            raise SpecError(f"--arms {name}: this study has {', '.join(known)}, or all")
    return {name: keys for name, keys in known.items() if name in names or name in always}
