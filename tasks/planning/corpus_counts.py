"""What a plan knows of the images of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.storage.manifest import Manifest
from tasks.data.catalog import SPLITS
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
    def labelled_train(self) -> int:
        """Labelled training images; exact unless an image has several labels."""
        if self.facts["task"] == "multilabel":
            return max(0, self.in_split["train"] - int(self.facts["unlabelled"]))
        return sum(self.facts["counts"]["train"].values())
