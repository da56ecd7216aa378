"""What a teacher is for the workers: network, weights and input, small and picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.digest import digest_of
from tasks.data.weights import WeightsRef
from tasks.spec.teacher import Kind


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
