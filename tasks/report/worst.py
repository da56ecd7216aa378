"""The test images on which a student is most wrong, as small pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.errors import PermanentError
from tasks.data.corpus import Corpus, load_image
from tasks.data.decisions import decided
from tasks.report.predictions import NAMED, Predicted

MOST = 12
_SIDE = 220  # longer side in pixels
_QUALITY = 85


@dataclass(frozen=True)
class Mistake:
    """One image.

    Attributes:
        key: of the image.
        truth, said: names of classes; of several labels the one that is most wrong.
        probability: that the student gives the truth; of several labels, that it gives the label.
        picture: data URL.
    """

    key: str
    truth: str
    said: str
    probability: float
    picture: str


def worst_errors(corpus: Corpus, facts: Mapping[str, Any], test: Predicted) -> tuple[list[Mistake], int]:
    """At most MOST of the worst, and how many are wrong in all.

    Of grades the farthest come first, of classes and labels those with the least probability of the truth.

    Raises:
        CorruptError: the bytes of an image are not those that were stored.
    """
    if not len(test):
        return [], 0
    where = {str(key): (shard, row) for shard in corpus.of_split("test") for row, key in enumerate(shard.keys)}
    rows, described = (_labels if test.labels is not None else _classes)(facts, test)
    found = []
    for row in rows[:MOST]:
        key = test.keys[row]
        truth, said, probability = described(int(row))
        found.append(Mistake(key, truth, said, probability, _picture(load_image(corpus.store, *where[key]))))
    return found, len(rows)


def _classes(facts: Mapping[str, Any], test: Predicted) -> tuple[np.ndarray, Any]:
    names = facts["classes"]
    said = decided(facts, test.prob)
    own = test.prob[np.arange(len(test)), test.label]
    far = np.abs(said - test.label) if facts["task"] == "ordinal" else (said != test.label).astype(int)
    order = np.lexsort((own, -far))
    wrong = order[said[order] != test.label[order]]
    return wrong, lambda row: (names[test.label[row]], names[said[row]], float(own[row]))


def _labels(facts: Mapping[str, Any], test: Predicted) -> tuple[np.ndarray, Any]:
    names, labels = facts["classes"], np.asarray(test.labels)
    gap = np.where(labels >= 0, np.abs(test.prob - labels), -1.0)
    named = test.prob >= NAMED
    gap = np.where(named == (labels == 1), -1.0, gap)
    worst = gap.argmax(axis=1)
    size = gap[np.arange(len(test)), worst]
    order = np.argsort(-size, kind="stable")

    def described(row: int) -> tuple[str, str, float]:
        name = names[worst[row]]
        there = labels[row, worst[row]] == 1
        return (name if there else f"no {name}"), (f"no {name}" if there else name), float(test.prob[row, worst[row]])

    return order[size[order] >= 0], described


def _picture(image: np.ndarray) -> str:
    """RGB uint8 [H, W, 3] as a data URL."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    done, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise PermanentError(f"OpenCV cannot store {image.shape} as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
