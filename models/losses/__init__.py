"""Losses: formulas by what they read (labels, logits, features), and the objective that composes them."""

from models.losses.objective import Objective, Setting
from models.losses.targets import Targets

__all__ = ["Objective", "Setting", "Targets"]
