"""The trainer of teachers and students, and what it is told and fed with."""

from models.training.config import Batch, DivergedError, LeavingError, TrainConfig
from models.training.trainer import Trainer

__all__ = ["Batch", "DivergedError", "LeavingError", "TrainConfig", "Trainer"]
