"""What was measured of the engines, and which one was taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.engines.engine import EngineError


@dataclass(frozen=True)
class Agreement:
    """How far an engine's logits are those of the reference, on a sample of images."""

    top1: float  # share of images whose largest logit is the same class; for multilabel heads too
    max_error: float  # largest |difference| of a logit
    spread: float  # standard deviation of all of the reference's logits
    samples: int

    @classmethod
    def of(cls, logits_NC: np.ndarray, reference_NC: np.ndarray) -> Agreement:
        """Compare; images of which the reference itself has no finite logits are left out.

        Raises:
            EngineError: that leaves no image.
        """
        known = np.isfinite(reference_NC).all(axis=1)
        if not known.any():
            raise EngineError(
                f"the network gives no finite logits for any of {len(known)} images in float32; check its weights and "
                "the mean and standard deviation of its input"
            )
        a, b = logits_NC[known].astype(np.float64), reference_NC[known].astype(np.float64)
        error = float(np.abs(a - b).max()) if np.isfinite(a).all() else math.inf
        return cls(float((a.argmax(1) == b.argmax(1)).mean()), error, float(b.std()), len(a))

    def why_not(self, min_agreement: float, max_error: float) -> str:
        """Why it is not enough; "" when it is.

        Args:
            min_agreement: smallest share of equal classes.
            max_error: largest error of a logit, in units of the spread.
        """
        faults = []
        if self.top1 < min_agreement:
            faults.append(
                f"the top class agrees on {self.top1:.1%} of {self.samples} images, below {min_agreement:.1%}"
            )
        if not self.max_error <= max_error * self.spread:
            faults.append(
                f"a logit is off by {self.max_error:.3g}, above {max_error:.3g} of the spread {self.spread:.3g}"
            )
        return "; ".join(faults)

    def to_json(self) -> dict[str, Any]:
        """The fields; an error that is not finite is None."""
        return {**asdict(self), "max_error": self.max_error if math.isfinite(self.max_error) else None}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Agreement:
        """Read `to_json` back."""
        error = told["max_error"]
        return cls(told["top1"], math.inf if error is None else error, told["spread"], told["samples"])


@dataclass(frozen=True)
class Tried:
    """An engine that was looked at: a row for a table.

    Attributes:
        top1, max_error: of its agreement; None where it was not compared, or the error is not finite.
        why_not: why it could not be taken; "" where it could.
    """

    engine: str
    images_per_second: float | None = None
    batch: int | None = None
    top1: float | None = None
    max_error: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Choice:
    """The engine to take.

    Attributes:
        batch: images to give it at once.
        images_per_second: as measured; None where there was nothing to choose.
        agreement: with float32; None where it was not measured.
        tried: what was looked at, in that order.
        limited: more work might lead to another choice: engines or measurements were left out to save time.
    """

    engine: str
    batch: int
    images_per_second: float | None = None
    agreement: Agreement | None = None
    tried: tuple[Tried, ...] = ()
    limited: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` reads back."""
        return {
            "engine": self.engine,
            "batch": self.batch,
            "images_per_second": self.images_per_second,
            "agreement": self.agreement.to_json() if self.agreement is not None else None,
            "tried": [asdict(row) for row in self.tried],
            "limited": self.limited,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Choice:
        """Read `to_json` back; KeyError or TypeError where it is no choice."""
        return cls(
            str(told["engine"]),
            int(told["batch"]),
            told["images_per_second"],
            _agreement(told["agreement"]),
            tuple(Tried(**row) for row in told["tried"]),
            bool(told["limited"]),
        )


def _agreement(told: Mapping[str, Any] | None) -> Agreement | None:
    return None if told is None else Agreement.from_json(told)
