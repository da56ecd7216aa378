"""`student:`, `evaluate:`, `register:`: who learns, how that is judged, where it goes."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tasks.spec.arms import LABELS_ONLY, RESERVED
from tasks.spec.base import Section
from tasks.spec.losses import LossTerm, check_split, terms_of_section
from tasks.spec.phases import INHERITED, PhaseSection, check_grafts, check_unlabelled, inherited
from tasks.spec.train import ModelSection, TrainSection

LONGEST_NAME = 200
"""Characters of a registered model's name; MLflow's databases take a few more."""


class StudentSection(ModelSection):
    """`student:`"""

    start: Literal["weights", "champion"] = Field(
        "weights",
        description="initial weights: those that `weights` says, or those of the registered model's champion, and as "
        "`weights` says while there is none; on labels alone always as `weights` says",
    )
    train: TrainSection = TrainSection(epochs=30)
    loss: list[LossTerm] | None = Field(
        None, min_length=1, description="default: labels plus soft labels, by the task and the kind of image"
    )
    teacher: Literal["stored", "online"] = Field(
        "stored", description="online: teachers see each batch; for feature maps, which are too large to store"
    )
    targets: Literal["view", "mean"] = Field(
        "view", description="soft labels of the view that is shown, or the mean over all stored views of the image"
    )
    pool: Literal["all", "labelled"] = Field("all", description="training images that are used")
    labels: bool = Field(True, description="false: labels of training images are hidden, teachers' outputs alone teach")
    seeds: list[int] = Field([0], min_length=1, description="one student a seed; the best on val is registered")
    phases: list[PhaseSection] | None = Field(
        None, min_length=1, description="trainings one after another, each from the weights of the one before"
    )
    arms: dict[str, StudentSection] = Field(
        default_factory=dict, description="further students in the report, by name: the keys that differ from these"
    )

    @model_validator(mode="before")
    @classmethod
    def _inherits(cls, given: Any) -> Any:
        """Phases and arms with the keys that they inherit."""
        if not isinstance(given, dict):
            return given
        whole, phases, arms = dict(given), given.get("phases"), given.get("arms")
        if isinstance(phases, list):
            base = {name: given[name] for name in INHERITED if name in given}
            whole["phases"] = [inherited(base, own) if isinstance(own, dict) else own for own in phases]
        if isinstance(arms, dict):
            base = {name: value for name, value in given.items() if name != "arms"}
            whole["arms"] = {name: inherited(base, own) if isinstance(own, dict) else own for name, own in arms.items()}
        return whole

    @model_validator(mode="after")
    def _consistent(self) -> StudentSection:
        names = [phase.name for phase in self.phases or []]
        if len(set(names)) != len(names):
            raise ValueError(f"two phases have the same name among {names}")
        if self.phases:
            check_grafts(self.phases)
        if not self.phases and not self.labels:
            check_unlabelled("student", self.pool, self.loss, self.train)
        for phase in self.phases or []:
            if not phase.labels:
                check_unlabelled(phase.name, phase.pool, phase.loss, phase.train)
        for name, arm in self.arms.items():
            if name in RESERVED or not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
                raise ValueError(f"arms: {name!r} is no name for an arm; take small letters, digits, _ and -")
            if arm.arms or arm.seeds != self.seeds:
                raise ValueError(f"arms: {name}: `seeds` and `arms` are the student's, alike for every arm")
        return self

    def of(self, arm: str) -> StudentSection:
        """The student of an arm: with its phases, but without further arms.

        On labels alone there are no phases, and the keys of training are the student's own, or those of the last phase
        where it has none.
        """
        found = self.arms.get(arm, self)
        if arm == LABELS_ONLY:
            train = self.phases[-1].train if self.phases and "train" not in self.model_fields_set else self.train
            # A champion was taught by teachers: whoever begins from it has not learned from labels alone.
            found = self.model_copy(update={"train": train, "phases": None, "labels": True, "start": "weights"})
        return found.model_copy(update={"arms": {}})

    def of_phase(self, name: str) -> StudentSection:
        """The student as one of its phases trains it; "": all of it, where there are no phases."""
        if not name:
            return self
        phase = next(phase for phase in self.phases or [] if phase.name == name)
        return self.model_copy(update={**{key: getattr(phase, key) for key in INHERITED}, "phases": None})

    @model_validator(mode="after")
    def _whole_batches(self) -> StudentSection:
        parts = [(self.loss, self.train), *((phase.loss, phase.train) for phase in self.phases or [])]
        for loss, train in parts:
            check_split(terms_of_section(loss or [], smoothing=0.0), train)
        return self

    def identity(self) -> dict[str, Any]:
        """What a training's key depends on; of its phases each has a section of its own."""
        # Of where it starts the weights' digest enters the key.
        left_out = ("seeds", "phases", "arms", "start")
        section = {name: value for name, value in super().identity().items() if name not in left_out}
        section["train"] = self.train.identity()
        # Fields that came later are left out where they are unset, so that what was trained before is found.
        if self.targets == "view":
            del section["targets"]
        if self.labels:
            del section["labels"]
        return section


class EvaluateSection(Section):
    """`evaluate:`"""

    metric: str | None = Field(
        None, description="main metric; default qwk_cut_points (ordinal), macro_f1 (single), auc (multilabel)"
    )
    bootstrap: int = Field(1000, ge=0, description="resamples over patients for the 95 % intervals")
    bins: int = Field(15, ge=2, description="bins of the calibration error and the reliability diagram")
    referable: int | None = Field(
        None, ge=1, description="graded corpora: first grade that is referred; default: the corpus's, 2 for DR"
    )
    decide_for: Literal["macro_f1", "balanced_accuracy", "accuracy", "mcc"] | None = Field(
        None,
        description="single-label corpora: what the shift of the logits is chosen for; default: the main metric where "
        "it is one of these, else macro_f1",
    )
    unit: Literal["image", "eye", "exam", "patient"] | None = Field(
        None,
        description="what referral is decided for; default: the exam where it is known of as many images as the "
        "patient, else the patient where that is known, else the image",
    )
    aggregate: Literal["maximum", "mean"] = Field(
        "maximum", description="how the probabilities of a unit's images become one; a unit is as ill as its worst"
    )
    compare: bool = Field(True, description="also train the same student on labels alone")
    baselines: bool = Field(True, description="majority, 16 x 16 thumbnails and image borders")

    def identity(self) -> dict[str, Any]:
        """Keys that came later are left out where they are unset, so that earlier comparisons are found."""
        section = super().identity()
        for name, unset in (("unit", None), ("aggregate", "maximum")):
            if section[name] == unset:
                del section[name]
        return section


class RegisterSection(Section):
    """`register:`"""

    name: str | None = Field(None, description="registered model's name; default: the spec's name")
    promote: Literal["by_hand", "automatic"] = Field(
        "by_hand",
        description="who makes a version that passed the gate champion: a person (stillroom promote), or the gate; "
        "challenger it becomes in both cases",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_champion(cls, given: Any) -> Any:
        """The key of before, refused with what to write in its place."""
        if isinstance(given, dict) and "champion" in given:
            now = {"if_better": "automatic", "if_none": "automatic", "never": "by_hand"}.get(str(given["champion"]))
            raise ValueError(
                f"champion: {given['champion']} is no key of this release; write promote: {now or 'by_hand'} "
                "(by_hand: a person promotes what passed the gate, the first version too; automatic: what passed every "
                "rule, the comparison with the champion included, becomes champion)"
            )
        return given

    @field_validator("name")
    @classmethod
    def _can_be_registered(cls, given: str | None) -> str | None:
        """A name that MLflow takes and that `models:/NAME@ALIAS` can say; MLflow is asked only at the end of a run."""
        if given is None:
            return None
        wrong = sorted({c for c in given if c in "/:@'\"`\\%?#" or not c.isprintable()})
        if wrong:
            raise ValueError(f"a registered model's name cannot hold {' '.join(map(repr, wrong))}")
        if given.strip() != given or given in ("", ".", "..") or len(given) > LONGEST_NAME:
            raise ValueError(
                f"{given[:40]!r} cannot name a registered model: 1 to {LONGEST_NAME} characters, no blank around"
            )
        return given
