"""`labels:`: fewer training labels than the corpus has, as a study of scarce labels needs them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.spec.base import Section


class LabelsSection(Section):
    """`labels:`"""

    share: float | None = Field(None, gt=0, le=1, description="share of the labelled training patients")
    patients: int | None = Field(None, ge=1, description="number of labelled training patients, in place of a share")
    least: int | None = Field(
        None,
        ge=1,
        description="patients that every class has at least; null: a class that is left without any is an error",
    )
    others: Literal["pool", "left_out"] = Field(
        "pool", description="training images whose label is taken away: unlabelled ones, or left out altogether"
    )
    pool: float = Field(1.0, ge=0, le=1, description="share of the training patients without a label that are used")
    seed: int = Field(0, ge=0, description="of the choice; the choice of a smaller share is part of that of a larger")
    folds: Annotated[int, Field(ge=2)] | Literal["official"] | None = Field(
        None,
        description="in place of the corpus's splits: the patients of all of them, or their groups of near duplicates, "
        "divided into so many folds; official: its test images and all others",
    )
    fold: int | None = Field(None, ge=0, description="the fold whose patients are the test images, from 0 on")

    @model_validator(mode="after")
    def _one_size(self) -> LabelsSection:
        if self.share is not None and self.patients is not None:
            raise ValueError("give share or patients, not both")
        if (self.folds is None) != (self.fold is None):
            raise ValueError("give folds and fold together: how many, and which is the test set")
        if self.fold is not None and self.fold >= (2 if self.folds == "official" else int(self.folds or 0)):
            raise ValueError(f"fold: {self.fold} is past the last of {self.folds} folds")
        if self.share is None and self.patients is None and self.pool == 1.0 and self.folds is None:
            raise ValueError("say how many labels are kept: share, patients, or pool for the unlabelled images")
        return self

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=None if self.folds is not None else {"folds", "fold"})
