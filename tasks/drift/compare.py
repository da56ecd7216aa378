"""The signals of a run's images: labels, attributes, what teachers say, and how the stored images look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from infra.errors import CancelledError, UsageError
from infra.storage.manifest import Manifest
from models.statistics.two_samples import (
    energy_coefficient,
    largest_distribution_gap,
    largest_prevalence_gap,
    total_variation,
)
from tasks.data.corpus import Corpus, load_image
from tasks.data.soft_labels import SoftLabelReader
from tasks.drift.images import Sample, StoredRows, Training, known_sources, sample_of, stored_rows, training_of
from tasks.drift.signals import Signal, measured

MOST_POINTS = 1000
"""Images of either side whose distances from each other are taken."""

MOST_IMAGES = 400
"""Images of either side that are decoded."""

_SIDE = 96  # pixels of the images that colours are taken of

_CATEGORIES = {"site": "site mix", "camera": "camera mix", "sex": "mix of sex", "projection": "mix of projections"}

Stop = Callable[[], bool]


class ImageSignals:
    """Signals of the images of a run against those of the champion.

    Args:
        corpus: of the run.
        before: that the champion learned from.
        labels: manifests of this run's teachers, who labelled new and old images alike.
        least: images on either side.
    """

    def __init__(
        self, corpus: Corpus, before: Corpus, labels: Sequence[Manifest], least: int, stop: Stop = lambda: False
    ) -> None:
        self.corpus, self.labels, self.least, self.stop = corpus, labels, least, stop
        self.now, self.old = training_of(corpus), training_of(before)
        known = known_sources(before)
        self.is_new = np.array([each not in known for each in self.now.source], bool)
        self.fresh = self.now.chosen(np.flatnonzero(self.is_new))
        self.old_sources = set(self.old.source.tolist())

    @property
    def new(self) -> int:
        """Training images that are new."""
        return len(self.fresh)

    def signals(self) -> Iterator[Signal]:
        """Every signal that this corpus can have."""
        yield from self._labels()
        yield from self._attributes()
        yield from self._stored()

    def _labels(self) -> Iterator[Signal]:
        name = "label prior of new images"
        sample = self._beside(self.fresh.labelled, self.old.labelled)
        if sample is None:
            few = f"{int(self.fresh.labelled.sum())} new labelled images, {int(self.old.labelled.sum())} old ones"
            yield Signal("label_prior", name, None, note=f"{few}: fewer than drift.least")
        else:
            yield measured("label_prior", name, self._class_distance(sample), sample)
        yield from self._whole()

    def _whole(self) -> Iterator[Signal]:
        """All labelled training images against those of the champion.

        Chance is that of two sets without an image in common, which is larger: of a small corpus the signal of the new
        images tells more.
        """
        now = self.now.chosen(np.flatnonzero(self.now.labelled))
        old = self.old.chosen(np.flatnonzero(self.old.labelled))
        if min(len(now), len(old)) < self.least:
            return
        label = {source: self._class_of(old, row) for row, source in enumerate(old.source)}
        changed = sum(
            label[source] != self._class_of(now, row) for row, source in enumerate(now.source) if source in label
        )
        gone = len(set(old.source.tolist()) - set(now.source.tolist()))
        whole = _joined(now, old)
        sides = np.arange(len(whole)) < len(now)
        sample = sample_of(sides, np.zeros(len(sides), np.int64), whole.patient, whole.source, self.least)
        if sample is None:
            return
        notes = [f"{changed} labels were corrected"] * bool(changed) + [f"{gone} images are gone"] * bool(gone)
        found = measured(
            "whole_label_prior",
            "label prior of all images",
            self._class_distance(sample, whole),
            sample,
            "; ".join(notes),
        )
        yield found

    def _attributes(self) -> Iterator[Signal]:
        sample = self._beside(np.ones(len(self.fresh), bool), np.ones(len(self.old), bool))
        if sample is None:
            return
        both = _joined(self.fresh, self.old)
        for attribute, name in _CATEGORIES.items():
            values = both.attributes[attribute][sample.rows].astype(str)
            if np.all(values == ""):
                continue
            unseen = sorted(set(values[sample.sides.new]) - set(values[~sample.sides.new]) - {""})
            note = f"{len(unseen)} never seen before" if unseen else ""
            kinds = np.unique(values, return_inverse=True)[1]
            key = attribute if attribute in ("site", "camera") else "population"
            yield measured(key, name, total_variation(kinds), sample, note)
        pixels = both.attributes["width"].astype(float) * both.attributes["height"].astype(float)
        yield from self._numbers("size", "pixels of the files", pixels, pixels > 0, sample)
        quality = both.attributes["quality"].astype(float)
        yield from self._numbers("quality", "quality of the images", quality, np.isfinite(quality), sample)

    def _numbers(self, key: str, name: str, values: np.ndarray, known: np.ndarray, sample: Sample) -> Iterator[Signal]:
        kept = sample.within(known[sample.rows])
        if min(kept.counts) >= self.least and len(np.unique(values[kept.rows])) > 1:
            yield measured(key, name, largest_distribution_gap(values[kept.rows]), kept)

    def _stored(self) -> Iterator[Signal]:
        """Signals that need stored labels or images: of new and old images that today's corpus has."""
        rows = stored_rows(self.corpus, set(self.fresh.source.tolist()), self.old_sources)
        new = np.isin(rows.source.astype(str), self.fresh.source.astype(str))
        sample = sample_of(new, rows.labelled.astype(np.int64), rows.patient, rows.source, self.least)
        if sample is None:
            why = f"{int(new.sum())} new and {int((~new).sum())} old images in this corpus: fewer than drift.least"
            yield Signal("appearance", "appearance", None, note=why)
            return
        yield from self._taught(rows, sample)
        few = _fewer(sample, MOST_IMAGES)
        looks = self._appearance(rows, few)
        yield measured("appearance", "appearance", energy_coefficient(looks), few)

    def _taught(self, rows: StoredRows, sample: Sample) -> Iterator[Signal]:
        if not self.labels:
            return
        prob, points, valid = self._predictions(rows, sample)
        kept, many = sample.within(valid), self.corpus.task == "multilabel"
        if min(kept.counts) < self.least:
            yield Signal("confidence", "confidence of the teachers", None, note="too few valid soft labels")
            return
        prob, points = prob[valid], points[valid]
        yield _classes("predicted_prior", "classes that the teachers name", prob, kept, many=many)
        yield measured(
            "confidence", "confidence of the teachers", largest_distribution_gap(confidence(prob, many=many)), kept
        )
        few = _fewer(kept, MOST_POINTS)
        near = points[np.isin(kept.rows, few.rows)]
        yield measured("embedding", "embedding of the teachers", energy_coefficient(near), few)

    def _predictions(self, rows: StoredRows, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean probabilities [n, C] of the plain view, what stands for an embedding [n, D], and bool [n]."""
        reader = SoftLabelReader(self.corpus, self.labels)
        shard, row = rows.shard[sample.rows].astype(int), rows.row[sample.rows].astype(int)
        prob = np.zeros((len(row), len(self.corpus.classes)))
        valid, points = np.zeros(len(row), bool), np.zeros((len(row), 0))
        for number in np.unique(shard):
            self._check_stop()
            own = np.flatnonzero(shard == number)
            prob[own] = reader.probabilities(int(number))[row[own]]
            valid[own] = reader.rows(int(number), 0).valid[row[own]]
            found = _embedded(reader, int(number))[row[own]]
            if not points.shape[1]:
                points = np.zeros((len(row), found.shape[1]))
            points[own] = found
        return prob, points, valid

    def _appearance(self, rows: StoredRows, sample: Sample) -> np.ndarray:
        """Mean and deviation of each colour, and of the edges, float64 [n, 8]."""
        import cv2

        found = np.zeros((len(sample.rows), 8))
        for place, at in enumerate(sample.rows):
            self._check_stop()
            shard = self.corpus.shards[int(rows.shard[at])]
            image = load_image(self.corpus.store, shard, int(rows.row[at]), cached=False)
            small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            edges = cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.CV_32F)
            colours, edge = cv2.meanStdDev(small), cv2.meanStdDev(edges)
            found[place] = [
                *colours[0][:, 0],
                *colours[1][:, 0],
                float(cv2.norm(edges, cv2.NORM_L1)) / edges.size,
                edge[1][0, 0],
            ]
        return found

    def _beside(self, fresh: np.ndarray, old: np.ndarray) -> Sample | None:
        """New and old images that bool arrays choose, as rows of `_joined(fresh, old)`."""
        chosen = np.flatnonzero(np.concatenate([fresh, old]))
        both = _joined(self.fresh, self.old)
        new = chosen < len(self.fresh)
        labelled = both.labelled[chosen].astype(np.int64)
        found = sample_of(new, labelled, both.patient[chosen], both.source[chosen], self.least)
        return None if found is None else Sample(chosen[found.rows], found.sides, found.seed)

    def _class_distance(self, sample: Sample, of: Training | None = None) -> Callable[[np.ndarray], np.ndarray]:
        both = of or _joined(self.fresh, self.old)
        if both.labels is not None:
            return largest_prevalence_gap(both.labels[sample.rows])
        return total_variation(np.unique(both.label[sample.rows].astype(str), return_inverse=True)[1])

    @staticmethod
    def _class_of(training: Training, row: int) -> object:
        return training.label[row] if training.labels is None else tuple(training.labels[row].tolist())

    def _check_stop(self) -> None:
        if self.stop():
            raise CancelledError("stopped on request")


def confidence(prob: np.ndarray, *, many: bool) -> np.ndarray:
    """Of each image [N]: its largest probability; of several labels the mean of how sure each is."""
    return np.asarray(np.maximum(prob, 1 - prob).mean(axis=1) if many else prob.max(axis=1))


def _classes(key: str, name: str, prob: np.ndarray, sample: Sample, *, many: bool) -> Signal:
    distance = largest_prevalence_gap((prob >= 0.5).astype(np.int8)) if many else total_variation(prob.argmax(axis=1))
    return measured(key, name, distance, sample)


def _embedded(reader: SoftLabelReader, shard: int) -> np.ndarray:
    """Pooled features where every teacher stored them, else logits, each row's mean taken away; [N, D]."""
    try:
        parts = [reader.features(number, shard, 0) for number in range(len(reader.teachers))]
    except UsageError:
        parts = []
    if parts and all(part.ndim == 2 for part in parts):
        return np.concatenate(parts, axis=1).astype(np.float64)
    logits = reader.logits(shard, 0).astype(np.float64)
    if reader.corpus.task != "multilabel":
        # The same probabilities have logits of any height.
        logits = logits - logits.mean(axis=2, keepdims=True)
    return np.concatenate(list(logits), axis=1)


def _fewer(sample: Sample, most: int) -> Sample:
    """At most `most` images of either side."""
    rng = np.random.default_rng(sample.seed)
    kept = np.zeros(len(sample.rows), bool)
    for side in (sample.sides.new, ~sample.sides.new):
        kept[rng.permutation(np.flatnonzero(side))[:most]] = True
    return sample.within(kept)


def _joined(first: Training, second: Training) -> Training:
    """Rows of both; labels of several an image by the classes of the first, unknown where the second has others."""
    labels = None
    if first.labels is not None and second.labels is not None:
        theirs = np.full((len(second), len(first.classes)), -1, np.int8)
        for place, name in enumerate(first.classes):
            if name in second.classes:
                theirs[:, place] = second.labels[:, second.classes.index(name)]
        labels = np.concatenate([first.labels, theirs])
    return Training(
        first.classes,
        np.concatenate([first.source, second.source]),
        np.concatenate([first.patient, second.patient]),
        np.concatenate([first.labelled, second.labelled]),
        np.concatenate([first.label, second.label]),
        labels,
        {
            name: np.concatenate([values, second.attributes[name]])
            for name, values in first.attributes.items()
            if name in second.attributes
        },
    )
