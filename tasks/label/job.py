"""What travels to a worker that labels: small, picklable, free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.cluster import cores
from infra.digest import digest_of, unit_key
from models.view_draws import Recipe
from tasks.corpus import Shard
from tasks.spec.teacher import Kind
from tasks.weights import WeightsRef

STAGE = "label"
VERSION = 2


@dataclass(frozen=True)
class TeacherModel:
    """Who speaks: all that its logits depend on beside the images.

    Attributes:
        name: for people; no part of the identity.
        kind: network (a timm name or one of ours), graph (a torch.export archive), onnx, python (an entry point
            `package.module:function`) or table (a Parquet table of logits by key).
        model: the network's name or the entry point; "" where a file says it all.
        size: side of its input in pixels; 0 for a table.
        mean, std: of its input; None: the network's own.
        features: "pooled", a module's path, or None.
        weights: the file, or no file for a Python entry point that needs none.
        folds: weights of the k fold teachers, none of which saw the labelled images of its own fold.
    """

    name: str
    kind: Kind
    model: str
    options: dict[str, Any]
    size: int
    num_classes: int
    weights: WeightsRef
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    features: str | None = None
    folds: tuple[WeightsRef, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What of it enters keys, beside the ids of its weights."""
        return {
            "kind": self.kind,
            "model": self.model,
            "options": self.options,
            "size": self.size,
            "classes": self.num_classes,
            "input": [self.mean, self.std],
            # Features by path came without a common layout once.
            "features": f"{self.features} as a map" if self.features not in (None, "pooled") else self.features,
        }

    @property
    def weight_ids(self) -> list[str]:
        """Ids of the whole teacher's weights and of the fold teachers'."""
        return [self.weights.id, *(ref.id for ref in self.folds)]

    @property
    def id(self) -> str:
        """Digest of network and weights."""
        return digest_of([self.identity(), *self.weight_ids])


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
