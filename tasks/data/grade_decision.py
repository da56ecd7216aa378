"""How one model's class probabilities become a grade and a referral: fitted cut points and a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.calibration import fit_temperature
from models.statistics.metrics import FLOOR, probabilities
from models.statistics.ordinal import CutPoints, expected_grade, fit_cut_points


@dataclass(frozen=True)
class GradeDecision:
    """Cut points and temperature of one model.

    Attributes:
        cuts: on the scale of the expected grade; None without labelled validation images.
        temperature: that P(referable) is calibrated with; 1 without labelled validation images.
    """

    cuts: CutPoints | None
    temperature: float

    @classmethod
    def fit(cls, prob: np.ndarray, label: np.ndarray) -> GradeDecision:
        """From validation predictions [N, C] and labels [N]; N may be 0."""
        if not len(label):
            return cls(None, 1.0)
        found = fit_cut_points(expected_grade(prob), label, prob.shape[1])
        cuts = CutPoints(tuple(round(value, 6) for value in found.values), found.missing)
        return cls(cuts, fit_temperature(_logits(prob), label))

    def calibrated(self, prob: np.ndarray) -> np.ndarray:
        """Probabilities [N, C] at the fitted temperature."""
        return probabilities("ordinal", _logits(prob) / self.temperature)

    def plain(self, seed: int) -> dict[str, Any]:
        """For JSON."""
        return {
            "seed": seed,
            "cut_points": None if self.cuts is None else list(self.cuts.values),
            "missing": [] if self.cuts is None else list(self.cuts.missing),
            "temperature": self.temperature,
        }


def _logits(prob: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(prob, FLOOR))
