"""A run of the line that goes on until somebody stops it."""

from __future__ import annotations

from tests.line import Place

LONG = ("--set", "student.train.steps=1000000", "--set", "student.train.checkpoint_every=20")


def training(place: Place) -> bool:
    """Whether the long student has begun."""
    return any((place.store / "checkpoints").rglob("*.pt"))


def forget_checkpoints(place: Place) -> None:
    for path in (place.store / "checkpoints").rglob("*.*"):
        path.unlink()
