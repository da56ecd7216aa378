"""How one model's class probabilities become a class: a fitted shift of the logits, then the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.logit_shift import fit_strength, shift_of, shifted


@dataclass(frozen=True)
class ClassDecision:
    """The shift of one model.

    Attributes:
        metric: that the shift was chosen for.
        strength: of the log prior, taken away; 0: no shift, also without labelled validation images.
        shift: [C] what is added to the logits.
    """

    metric: str
    strength: float
    shift: tuple[float, ...]

    @classmethod
    def fit(
        cls, prob: np.ndarray, label: np.ndarray, prior: np.ndarray, metric: str, patient: np.ndarray
    ) -> ClassDecision:
        """From validation predictions [N, C], labels [N] and patients [N], N may be 0; prior [C] in logs."""
        strength = fit_strength(prob, label, prior, metric, patient)
        return cls(metric, strength, tuple(round(float(value), 6) for value in shift_of(strength, prior)))

    def shifted(self, prob: np.ndarray) -> np.ndarray:
        """Probabilities [N, C] whose argmax is the decision."""
        return shifted(prob, np.asarray(self.shift))

    def plain(self, seed: int) -> dict[str, Any]:
        """For JSON."""
        return {"seed": seed, "strength": self.strength, "logit_shift": list(self.shift)}
