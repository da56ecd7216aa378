"""How closely an engine agrees with float32: by the divergence of the probabilities that its logits stand for.

A student learns from probabilities: the gradient of its cross-entropy with respect to its logits is p_student - p, so
an engine that gives q in place of p adds p - q to it. The total variation distance sum |p - q| / 2 is half the sum of
what it adds, lies between 0 and 1, and is the largest difference in the probability of any set of classes. Where two
classes are equally likely a change of rank counts for as little as it means; the top class alone is no measure there.

The mean over images is estimated with a confidence interval. An engine is accepted when the interval ends below the
bar and refused when it begins above it; in between more images are compared, up to a limit.

Shapes: N images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.engines.engine import EngineError

MAX_DIVERGENCE = 0.02
"""The bar for the mean total variation distance.

A student is taught by several random views of an image, and another view moves a teacher's probabilities by far more:
by 0.19 for EfficientNet-Lite0 with a five-class head on Hyper-Kvasir (96 images, probabilities of 0.94 on average for
the top class), where bfloat16 moves them by 0.011. A tenth of what a view does at most may come from the engine.
"""

FIRST_IMAGES, MOST_IMAGES = 64, 512
"""Images compared at first, and at most; each look doubles them."""

# Two-sided 99 %: up to four looks at growing samples together err in at most 4 % of cases.
_Z = 2.576


@dataclass(frozen=True)
class Agreement:
    """Agreement of an engine's logits with those of the reference, on a sample of images."""

    divergence: float  # mean total variation distance of the probabilities
    low: float  # bounds of its confidence interval
    high: float
    top1: float  # share of images whose largest logit is the same class; for multilabel heads too
    max_error: float  # largest |difference| of a logit
    spread: float  # standard deviation of all of the reference's logits
    samples: int

    @classmethod
    def of(cls, logits_NC: np.ndarray, reference_NC: np.ndarray, *, many: bool = False) -> Agreement:
        """Compare; images for which the reference has no finite logits are left out.

        Args:
            many: every class is a label of its own (sigmoid), rather than one class an image (softmax).

        Raises:
            EngineError: no image is left.
        """
        known = np.isfinite(reference_NC).all(axis=1)
        if not known.any():
            raise EngineError(
                f"the network gives no finite logits for any of {len(known)} images in float32; check its weights and "
                "the mean and standard deviation of its input"
            )
        a, b = logits_NC[known].astype(np.float64), reference_NC[known].astype(np.float64)
        finite = np.isfinite(a).all(axis=1)
        # An image without probabilities is as wrong as can be.
        moved_N = np.ones(len(a))
        moved_N[finite] = total_variation(a[finite], b[finite], many=many)
        mean = float(moved_N.mean())
        half = _Z * float(moved_N.std(ddof=1)) / math.sqrt(len(a)) if len(a) > 1 else 1.0
        return cls(
            divergence=mean,
            low=max(0.0, mean - half),
            high=min(1.0, mean + half),
            top1=float((a.argmax(1) == b.argmax(1)).mean()),
            max_error=float(np.abs(a - b).max()) if finite.all() else math.inf,
            spread=float(b.std()),
            samples=len(a),
        )

    def accepted(self, max_divergence: float) -> bool:
        """Whether the interval ends below the bar and every logit is finite."""
        return self.high < max_divergence and math.isfinite(self.max_error)

    def refused(self, max_divergence: float) -> bool:
        """Whether the interval begins above the bar, or a logit is not finite where it is in float32."""
        return self.low > max_divergence or not math.isfinite(self.max_error)

    def why_not(self, max_divergence: float) -> str:
        """Why the agreement is not enough; "" when it is."""
        if self.accepted(max_divergence):
            return ""
        if not math.isfinite(self.max_error):
            return f"it gives logits that are not finite on some of {self.samples} images"
        interval = f"{self.divergence:.3g} [{self.low:.3g}, {self.high:.3g}]"
        doubt = "" if self.refused(max_divergence) else ", which more images would have to decide"
        return (
            f"its probabilities differ from those of float32 by {interval} on {self.samples} images, not below "
            f"{max_divergence:.3g}{doubt}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields; an error that is not finite is None."""
        return {**asdict(self), "max_error": self.max_error if math.isfinite(self.max_error) else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Agreement:
        """Read `to_json` back; KeyError or TypeError for other values."""
        error = values["max_error"]
        return cls(**{**values, "max_error": math.inf if error is None else error})


def total_variation(logits_NC: np.ndarray, reference_NC: np.ndarray, *, many: bool) -> np.ndarray:
    """Total variation distance of the probabilities of finite logits, float64 [N]; with `many` the mean over labels."""
    if many:
        return np.asarray(np.abs(_sigmoid(logits_NC) - _sigmoid(reference_NC)).mean(axis=1))
    return np.asarray(np.abs(_softmax(logits_NC) - _softmax(reference_NC)).sum(axis=1) / 2)


def compared(
    predict: Callable[[int, int], np.ndarray],
    reference: Callable[[int, int], np.ndarray],
    available: int,
    *,
    many: bool,
    max_divergence: float,
) -> Agreement:
    """Compare on as many images as a decision takes.

    Args:
        predict, reference: logits [stop - start, C] of the images from `start` to `stop`; `reference` may be float32
            logits that are known already.
        available: images that there are.
    """
    most = min(available, MOST_IMAGES)
    own, other = [], []
    start, stop = 0, min(most, FIRST_IMAGES)
    while True:
        own.append(predict(start, stop))
        other.append(reference(start, stop))
        found = Agreement.of(np.concatenate(own), np.concatenate(other), many=many)
        if found.accepted(max_divergence) or found.refused(max_divergence) or stop >= most:
            return found
        start, stop = stop, min(most, 2 * stop)


def _softmax(logits_NC: np.ndarray) -> np.ndarray:
    raised = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _sigmoid(logits_NC: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(logits_NC / 2)))
