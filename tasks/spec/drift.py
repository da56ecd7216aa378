"""`drift:` how far the images of a run may lie from those that the champion learned from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tasks.spec.base import Section

Limit = Annotated[float, Field(ge=0, le=1)] | None


class DriftLimits(Section):
    """`drift.limits:` a signal is drift above its limit, where chance is excluded too; null: it is not asked."""

    label_prior: Limit = Field(
        0.1,
        description="share of the new labelled images that would have to be of another class; of several labels an "
        "image the largest difference of a label's prevalence",
    )
    whole_label_prior: Limit = Field(
        0.05, description="the same of all labelled training images against those that the champion learned from"
    )
    predicted_prior: Limit = Field(0.1, description="the same of the classes that the teachers name on new images")
    site: Limit = Field(0.1, description="share of the new images that would have to come from another site")
    camera: Limit = Field(0.1, description="share of the new images that would have to come from another camera")
    population: Limit = Field(0.1, description="the same of sex, and of projection, each for itself")
    confidence: Limit = Field(
        0.1, description="largest difference of the distribution functions of the teachers' confidence"
    )
    embedding: Limit = Field(
        0.05,
        description="root of the energy distance of the teachers' stored features, or logits, as a share of the mean "
        "distance",
    )
    appearance: Limit = Field(
        0.05, description="the same of colour, contrast and sharpness of a sample of the stored images"
    )
    size: Limit = Field(0.1, description="largest difference of the distribution functions of the files' pixels")
    quality: Limit = Field(0.1, description="the same of the images' quality")
    production_classes: Limit = Field(
        0.1, description="share of the logged predictions that would have to be of another class"
    )
    production_confidence: Limit = Field(
        0.1, description="largest difference of the distribution functions of the champion's confidence"
    )
    production_site: Limit = Field(0.1, description="share of the logged predictions that would have to come elsewhere")


class DriftSection(Section):
    """`drift:`"""

    enabled: bool = Field(True, description="compare the run's images with those that the champion learned from")
    hold: bool = Field(True, description="a student whose images drifted passes no gate; training goes on")
    predictions: str | None = Field(
        None,
        description="Parquet log of what the champion answers in service: a file, a folder of them, or store:NAME; "
        "docs/retraining.md has its columns",
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, description="how often all signals of a run together may ring by chance alone"
    )
    least: int = Field(30, ge=10, description="fewest images on either side; of fewer nothing is said")
    limits: DriftLimits = DriftLimits()

    def identity(self) -> dict[str, Any]:
        # The log counts by its digest, and what the gate makes of the result is the gate's.
        return self.model_dump(mode="json", exclude={"enabled", "hold", "predictions"})
