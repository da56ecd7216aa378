"""A signal: one distance between new and old images, its limit, and what it means when it is above it.

A signal is drift where its distance is above the limit and chance is excluded: the first alone would ring for every
small set of new images, the second alone for every large one, however small its distance. Signals of one run are
corrected together (Holm), so that more of them do not ring more often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.statistics.two_samples import Distance, compared, holm
from tasks.drift.images import Sample


@dataclass(frozen=True)
class Signal:
    """What one distance says.

    Attributes:
        key: of `drift.limits`.
        name: for people.
        value: the distance; None where too little is known, for the reason `note`.
        p: how often chance alone is as far; None where `value` is.
        new, old: images on either side.
        note: what people should know beside the figure.
    """

    key: str
    name: str
    value: float | None
    p: float | None = None
    new: int = 0
    old: int = 0
    note: str = ""


@dataclass(frozen=True)
class Meaning:
    """What a signal above its limit means, and what to do."""

    means: str
    do: str


def measured(key: str, name: str, distance: Distance, sample: Sample, note: str = "") -> Signal:
    """The signal of a distance on a sample."""
    value, p = compared(distance, sample.sides, sample.seed)
    return Signal(key, name, value, p, *sample.counts, note)


def decided(signals: Sequence[Signal], limits: Mapping[str, float | None], alpha: float) -> list[dict[str, Any]]:
    """Signals as JSON, each with `limit`, `drifted` and `p`, corrected for their number.

    Args:
        limits: by the key; signals whose limit is None are left out.
        alpha: level of all together.
    """
    asked = [signal for signal in signals if limits[signal.key] is not None]
    tested = [signal for signal in asked if signal.p is not None]
    corrected = dict(zip((id(one) for one in tested), holm([one.p or 0.0 for one in tested]), strict=True))
    return [_told(signal, limits[signal.key], corrected.get(id(signal)), alpha) for signal in asked]


def _told(signal: Signal, limit: float | None, p: float | None, alpha: float) -> dict[str, Any]:
    far = signal.value is not None and limit is not None and signal.value > limit
    return {
        "name": signal.name,
        "key": signal.key,
        "value": None if signal.value is None else round(max(0.0, signal.value), 4),
        "limit": limit,
        "drifted": bool(far and p is not None and p <= alpha),
        "p": None if p is None else round(p, 4),
        "new": signal.new,
        "old": signal.old,
        "note": signal.note,
    }


MEANINGS: Mapping[str, Meaning] = {
    "label_prior": Meaning(
        "New images have other classes than those the champion learned from.",
        "See whether patients, or the way images are chosen, changed; thresholds may no longer fit.",
    ),
    "whole_label_prior": Meaning(
        "The labels of all training images have another mix of classes, by new images or by corrections.",
        "Check the corrections; choose thresholds anew before anything serves.",
    ),
    "predicted_prior": Meaning(
        "The teachers name other classes on new images than on old ones.",
        "Look at new images of the classes that became frequent; label some of them.",
    ),
    "site": Meaning(
        "New images come from other sites, or from the same ones in another mix.",
        "Read the report's figures by site; label images of the new site for the test set.",
    ),
    "camera": Meaning(
        "New images come from other cameras, or from the same ones in another mix.",
        "Read the report's figures by camera; label images of the new camera for the test set.",
    ),
    "population": Meaning(
        "New images are of other patients or projections than before.",
        "Read the report's figures by group; see whether the test set has these patients.",
    ),
    "confidence": Meaning(
        "The teachers are surer, or less sure, of new images than of old ones.",
        "Look at the images that they are least sure of (label card); label some of them.",
    ),
    "embedding": Meaning(
        "To the teachers new images are unlike old ones.",
        "Look at some new images beside old ones; look for another device, crop or kind of patient.",
    ),
    "appearance": Meaning(
        "New images have other colours, contrast or sharpness than old ones.",
        "Look for another camera, lighting or export setting.",
    ),
    "size": Meaning(
        "The files have another number of pixels.",
        "Look for another device or export setting; see whether images are scaled before they arrive.",
    ),
    "quality": Meaning(
        "New images are sharper or more blurred than old ones.",
        "Look at the worst ones; see whether corpus.min_quality should keep them out.",
    ),
    "production_classes": Meaning(
        "In service the champion names other classes than on its own validation and test images.",
        "See whether patients changed; compare some answers with a reader.",
    ),
    "production_confidence": Meaning(
        "In service the champion is surer, or less sure, than on its own validation and test images.",
        "Look at images of its least sure answers; label some of them and retrain.",
    ),
    "production_site": Meaning(
        "The images in service come from other sites than those that the champion learned from.",
        "Add images of these sites to the corpus, and to the test set.",
    ),
}
