"""What travels to a worker that labels: small, picklable, free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.compute.cluster import cores
from infra.digest import unit_key
from infra.storage.stage_cache import UnitRecord
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Shard
from tasks.teachers.teacher import TeacherModel

STAGE = "label"
VERSION = 2


@dataclass(frozen=True)
class LabelIdentity:
    """What a unit (shard, teacher, view of a recipe) is of: all that its key is made from."""

    shard: str  # id
    section: Mapping[str, Any]
    weights: tuple[str, ...]  # ids

    @classmethod
    def of(
        cls, shard_id: str, teacher: TeacherModel, recipe: ViewRecipe, view: int, folds: np.ndarray | None = None
    ) -> LabelIdentity:
        """The identity of a unit.

        Args:
            folds: int [N], the fold of each row, whose fold teacher predicts it; -1: the whole teacher. None: the
                whole teacher predicts every row.
        """
        section = {"teacher": teacher.identity(), "recipe": recipe.view_id(view), "view": view}
        if folds is not None:
            section["folds"] = folds.tolist()
        return cls(shard_id, section, tuple(teacher.weight_ids))

    @classmethod
    def of_record(cls, record: UnitRecord) -> LabelIdentity | None:
        """The identity that a record tells; None where it was written before records told theirs."""
        told = record.facts.get(_IDENTITY)
        return cls(told["shard"], told["section"], tuple(told["weights"])) if told else None

    @property
    def key(self) -> str:
        """Key of the unit."""
        return unit_key(STAGE, VERSION, inputs=[self.shard], section=self.section, weights=list(self.weights))

    @property
    def facts(self) -> dict[str, Any]:
        """For the unit's record, so that `stillroom forget` can keep the labels of a shard that it writes anew."""
        return {_IDENTITY: {"shard": self.shard, "section": dict(self.section), "weights": list(self.weights)}}

    def of_rows(self, shard: str, rows: np.ndarray) -> LabelIdentity:
        """The same unit of another shard that holds only some rows of this one's.

        Args:
            shard: id of the other.
            rows: int [M], in the other's order.
        """
        section = dict(self.section)
        if "folds" in section:
            section["folds"] = [section["folds"][row] for row in rows.tolist()]
        return LabelIdentity(shard, section, self.weights)


_IDENTITY = "of"


def label_key(
    shard_id: str, teacher: TeacherModel, recipe: ViewRecipe, view: int, folds: np.ndarray | None = None
) -> str:
    """Key of a unit; see `LabelIdentity.of`."""
    return LabelIdentity.of(shard_id, teacher, recipe, view, folds).key


@dataclass(frozen=True)
class TeacherRequest:
    """One teacher and the views of a shard that it predicts."""

    teacher: TeacherModel
    views: tuple[tuple[int, str], ...]  # view and key of its unit
    folds: np.ndarray | None = None  # int8 [N], see `LabelIdentity.of`
    kept: tuple[str, ...] = ()  # keys of units of which some rows are known, see `tasks.label.kept_rows`

    def object_name(self, title: str, recipe: ViewRecipe, view: int, key: str) -> str:
        """Name of the soft-label file, with a place for its digest."""
        folder = f"labels/{title}/{self.teacher.id[:12]}/{recipe.view_id(view)[:12]}"
        return f"{folder}/view-{view}/{key[:16]}-{{sha8}}.safetensors"


@dataclass(frozen=True)
class InferenceSettings:
    """How workers run the teachers; no part of any key."""

    device: str  # cpu or cuda
    share: int  # jobs that run at once on the worker's machine and divide its cores
    cores: int | None = None  # of a job; None: its share of the machine's
    engine: str = "auto"  # auto or a family: eager, compile, onnxruntime, openvino
    precision: str = "auto"
    batch: int | None = None  # None: measured
    max_divergence: float = 0.02  # from the probabilities of float32, see `models.engines.agreement`
    many: bool = False  # logits are of labels of their own
    passes: int = 0  # forward passes of a teacher on one worker in this run
    workers: int = 1  # jobs of the cluster that run at once

    @property
    def threads(self) -> int:
        """Threads of a job on this machine."""
        return self.cores or max(1, cores() // self.share)


@dataclass(frozen=True)
class LabelJob:
    """Some views of one shard for some teachers: one decode and one rendering of each view serve them all."""

    store: str
    title: str
    shard: Shard
    recipe: ViewRecipe
    requests: tuple[TeacherRequest, ...]
    inference: InferenceSettings
    skip: tuple[tuple[int, str], ...] = ()  # rows that are not to be read, and why: they kill workers
    topic: str = ""  # event that asks to stop; "" for none
    settle: bool = False  # measure engines for the teachers, and label nothing

    @property
    def views(self) -> list[int]:
        """All views that some teacher predicts."""
        return sorted({view for request in self.requests for view, _ in request.views})
