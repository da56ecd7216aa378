"""`student:`, `evaluate:`, `register:`: who learns, how that is judged, where it goes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.spec.base import Section
from tasks.spec.losses import LossTerm, check_split, terms_of_section
from tasks.spec.train import ModelSection, TrainSection


class StudentSection(ModelSection):
    """`student:`"""

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
    seeds: list[int] = Field([0], min_length=1, description="one student a seed; the best on val is registered")

    @model_validator(mode="after")
    def _whole_batches(self) -> StudentSection:
        check_split(terms_of_section(self.loss or [], smoothing=0.0), self.train)
        return self

    def identity(self) -> dict[str, Any]:
        section = {name: value for name, value in super().identity().items() if name != "seeds"}
        section["train"] = self.train.identity()
        if self.targets == "view":
            del section["targets"]  # came later; what was trained before is found
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
    compare: bool = Field(True, description="also train the same student on labels alone")
    baselines: bool = Field(True, description="majority, 16 x 16 thumbnails and image borders")


class RegisterSection(Section):
    """`register:`"""

    name: str | None = Field(None, description="registered model's name; default: the spec's name")
    champion: Literal["if_none", "if_better", "never"] = Field(
        "if_none", description="when the new version takes the alias champion; challenger it always takes"
    )
