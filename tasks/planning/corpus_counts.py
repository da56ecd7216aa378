"""What a plan knows of the images of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.storage.manifest import Manifest
from tasks.data.catalog import SPLITS
from tasks.ingest.overlay_counts import overlay_counts
from tasks.ingest.pixels import ImageRecipe
from tasks.planning.measurements import ImageSample


@dataclass(frozen=True)
class CorpusCounts:
    """What there is to ingest, and what reading some of it showed."""

    facts: dict[str, Any]  # as `tasks.ingest.summary.facts_of` names them
    patients: int  # 0 where none is known
    without_patient: dict[str, int]  # as `tasks.data.patients.images_without_patient` tells it
    empty: int  # files of zero bytes
    readable: int  # files that are not
    recipe: ImageRecipe
    sample: ImageSample
    shards: int  # to make
    images: int  # in those shards
    unhashed: int
    drawn: bool  # False: phantoms, planned from the spec
    manifest: Manifest | None  # of the ingest, where that is cached; of the training set where several form it
    to_hash: int = 0  # images that are read before the split too, to find near duplicates
    parts: tuple[CorpusCounts, ...] = ()  # of each corpus, where there are several

    @property
    def in_split(self) -> dict[str, int]:
        """Images by split."""
        return {split: int(self.facts["images"].get(split, 0)) for split in SPLITS}

    @property
    def each(self) -> tuple[CorpusCounts, ...]:
        """Of each corpus, in the spec's order."""
        return self.parts or (self,)

    @property
    def sampled_overlays(self) -> dict[str, Any]:
        """Images that were read and likely have text or an inset box, as `tasks.ingest.overlay_counts` counts them."""
        label = np.array([label for label, _ in self.sample.overlays], np.int64)
        marks = np.array([found for _, found in self.sample.overlays], np.int64)
        classes = self.facts["classes"]
        if self.facts["task"] == "multilabel":
            everything = np.ones(len(marks), bool)
            return overlay_counts(marks, [everything], ~everything, ["all images"])
        return overlay_counts(marks, [label == c for c in range(len(classes))], label < 0, classes)

    @property
    def labelled_train(self) -> int:
        """Labelled training images; exact unless an image has several labels."""
        if self.facts["task"] == "multilabel":
            return max(0, self.in_split["train"] - int(self.facts["unlabelled"]))
        return sum(self.facts["counts"]["train"].values())
