"""What travels to a worker that labels: small, picklable, free of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infra.compute.cluster import cores
from infra.digest import unit_key
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Shard
from tasks.teachers.teacher import TeacherModel

STAGE = "label"
VERSION = 2


def label_key(
    shard_id: str, teacher: TeacherModel, recipe: ViewRecipe, view: int, folds: np.ndarray | None = None
) -> str:
    """Key of the unit (shard, teacher, view of a recipe).

    Args:
        folds: int [N], the fold of each row, whose fold teacher predicts it; -1: the whole teacher. None: the whole
            teacher predicts every row.
    """
    section = {"teacher": teacher.identity(), "recipe": recipe.view_id(view), "view": view}
    if folds is not None:
        section["folds"] = folds.tolist()
    return unit_key(STAGE, VERSION, inputs=[shard_id], section=section, weights=teacher.weight_ids)


@dataclass(frozen=True)
class TeacherRequest:
    """One teacher and the views of a shard that it predicts."""

    teacher: TeacherModel
    views: tuple[tuple[int, str], ...]  # view and key of its unit
    folds: np.ndarray | None = None  # int8 [N], see `label_key`

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
