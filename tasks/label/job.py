"""What travels to a worker that labels: small, picklable, free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.digest import digest_of, unit_key
from models.view_draws import Recipe
from tasks.corpus import Shard
from tasks.weights import WeightsRef

STAGE = "label"
VERSION = 1


@dataclass(frozen=True)
class TeacherModel:
    """The network that speaks: all that its logits depend on beside the images."""

    name: str  # for people; no part of the identity
    model: str
    options: dict[str, Any]
    size: int  # side of its input in pixels
    num_classes: int
    weights: WeightsRef

    def identity(self) -> dict[str, Any]:
        """What of it enters keys, beside the id of its weights."""
        return {
            "model": self.model,
            "options": self.options,
            "size": self.size,
            "classes": self.num_classes,
        }

    @property
    def id(self) -> str:
        """Digest of network and weights."""
        return digest_of([self.identity(), self.weights.id])


def label_key(shard_id: str, teacher: TeacherModel, recipe: Recipe, view: int) -> str:
    """Key of the unit (shard, teacher, view of a recipe)."""
    return unit_key(
        STAGE,
        VERSION,
        inputs=[shard_id],
        section={"teacher": teacher.identity(), "recipe": recipe.view_id(view), "view": view},
        weights=[teacher.weights.id],
    )


@dataclass(frozen=True)
class LabelJob:
    """Some views of one shard for one teacher: one decode of each image serves them all."""

    store: str
    title: str
    shard: Shard
    recipe: Recipe
    views: tuple[tuple[int, str], ...]  # view and key of its unit
    teacher: TeacherModel
    device: str  # cpu or cuda
    batch: int
    share: int  # jobs that run at once on the worker's machine and divide its cores

    def object_name(self, view: int, key: str) -> str:
        """Name of the soft-label file, with a place for its digest."""
        folder = f"labels/{self.title}/{self.teacher.id[:12]}/{self.recipe.view_id(view)[:12]}"
        return f"{folder}/view-{view}/{key[:16]}-{{sha8}}.safetensors"
