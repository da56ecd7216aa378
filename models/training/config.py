"""How to train, and what one step is fed with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.losses.targets import Targets


class DivergedError(ValueError):
    """The loss is no number, or grew out of all proportion; the text names the batch's keys."""


class LeavingError(RuntimeError):
    """The training was asked to leave its place; its last step is in a checkpoint."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train; one field a key of the spec's `train:`, which says what each means."""

    steps: int
    lr: float
    optimizer: str = "adamw"
    weight_decay: float = 0.02
    warmup: float = 0.05
    schedule: str = "cosine"
    step_at: tuple[float, ...] = (0.6, 0.85)
    factor: float = 0.1
    patience: int = 2
    ema: float | None = 0.99
    clip: float | None = 1.0
    clip_value: float | None = None
    precision: str = "float32"  # bfloat16, float16: autocast; float16 with loss scaling
    accumulate: int = 1
    freeze: tuple[str, ...] = ()
    validations: int = 5
    higher_is_better: bool = True
    early_stop: int | None = None
    keep: str = "last"  # last or best
    checkpoint_every: int = 200
    log_every: int = 50


@dataclass(frozen=True)
class Batch:
    """What one process sees of one step."""

    x_B3HW: Tensor  # float32, normalised for the student
    targets: Targets
    keys: list[str]
    teacher_x: tuple[Tensor, ...] = ()  # the same pictures for each online teacher, at its own size, normalised for it
