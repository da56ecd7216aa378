"""What travels to a worker that labels: small, picklable, free of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infra.compute.cluster import cores
from infra.digest import unit_key
from models.augmentation.draws import Recipe
from tasks.data.corpus import Shard
from tasks.teachers.model import TeacherModel

STAGE = "label"
VERSION = 2


def label_key(shard_id: str, teacher: TeacherModel, recipe: Recipe, view: int, folds: np.ndarray | None = None) -> str:
    """Key of the unit (shard, teacher, view of a recipe).

    Args:
        folds: int [N], the fold of each row; -1 where the whole teacher speaks. None: it speaks everywhere.
    """
    section = {"teacher": teacher.identity(), "recipe": recipe.view_id(view), "view": view}
    if folds is not None:
        section["folds"] = folds.tolist()
    return unit_key(STAGE, VERSION, inputs=[shard_id], section=section, weights=teacher.weight_ids)


@dataclass(frozen=True)
class Ask:
    """What of a shard one teacher is asked."""

    teacher: TeacherModel
    views: tuple[tuple[int, str], ...]  # view and key of its unit
    folds: np.ndarray | None = None  # int8 [N], see `label_key`

    def object_name(self, title: str, recipe: Recipe, view: int, key: str) -> str:
        """Name of the soft-label file, with a place for its digest."""
        folder = f"labels/{title}/{self.teacher.id[:12]}/{recipe.view_id(view)[:12]}"
        return f"{folder}/view-{view}/{key[:16]}-{{sha8}}.safetensors"


@dataclass(frozen=True)
class How:
    """How workers ask; no part of any key."""

    device: str  # cpu or cuda
    share: int  # jobs that run at once on the worker's machine and divide its cores
    cores: int | None = None  # of a job; None: its share of the machine's
    engine: str = "auto"  # auto or a family: eager, compile, onnxruntime, openvino
    precision: str = "auto"
    batch: int | None = None  # None: measured
    min_agreement: float = 0.98
    max_error: float = 0.25
    passes: int = 0  # forward passes that a worker owes in this run: measuring may cost a share of them

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
    recipe: Recipe
    asks: tuple[Ask, ...]
    how: How
    skip: tuple[tuple[int, str], ...] = ()  # rows that are not to be touched, and why: they kill workers
    topic: str = ""  # event that asks to stop; "" for none

    @property
    def views(self) -> list[int]:
        """All views that some teacher is asked about."""
        return sorted({view for ask in self.asks for view, _ in ask.views})
