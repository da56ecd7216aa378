"""Configuration of a training, the batch of one step, and the errors that end a training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.losses.targets import Targets


class DivergedError(ValueError):
    """The loss is not finite or far above its first values; the text names the keys of the batch."""


class PreemptedError(RuntimeError):
    """The training stopped on request, to be resumed elsewhere; its last step is in a checkpoint."""


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training; a field for each key of the spec's `train:`, where they are explained."""

    steps: int
    lr: float
    backbone_lr: float | None = None  # of all layers but the head; None: lr
    projector_lr: float | None = None  # of the objective's own parameters; None: lr
    optimizer: str = "adamw"
    weight_decay: float = 0.02
    warmup: float = 0.05
    schedule: str = "cosine"
    step_at: tuple[float, ...] = (0.6, 0.85)
    factor: float = 0.1
    patience: int = 2
    ema_share: float | None = 0.05
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
    """The part of one step's batch that one process computes."""

    x_B3HW: Tensor  # float32, normalised for the student
    targets: Targets
    keys: list[str]
    teacher_x: tuple[Tensor, ...] = ()  # the same images for each online teacher, at its own size and normalisation
