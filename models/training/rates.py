"""The learning rate: a function of the step, and of how often a plateau let it fall."""

from __future__ import annotations

import math

from models.training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig, falls: int = 0) -> float:
    """Linear warm-up, then the schedule.

    cosine: half a cosine to zero (1608.03983 without restarts). step: times `factor` at each of `step_at`.
    plateau: times `factor` for each fall. constant: as it is.

    Args:
        step: steps done.
        falls: of schedule plateau, so far.

    Raises:
        ValueError: an unknown schedule.
    """
    warm = round(config.warmup * config.steps)
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))
    if config.schedule == "step":
        return config.lr * config.factor ** sum(step >= round(share * config.steps) for share in config.step_at)
    if config.schedule == "plateau":
        return config.lr * config.factor**falls
    if config.schedule == "constant":
        return config.lr
    raise ValueError(f"there is no schedule {config.schedule!r}; there are cosine, step, plateau and constant")


def validation_steps(config: TrainConfig) -> set[int]:
    """Steps after which the validation images are asked: evenly spread, the last one included."""
    return {round(i * config.steps / config.validations) for i in range(1, config.validations + 1)} - {0}
