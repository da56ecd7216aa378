"""Losses by what they read: labels or teachers' logits."""

from models.losses.targets import Targets

__all__ = ["Targets"]
