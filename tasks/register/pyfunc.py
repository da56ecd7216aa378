"""The model that MLflow serves: one raw image in, class probabilities out.

This one file travels with every registered model as its code, with the text of `graph_archive` in place of its import
(`tasks.register.consumer`), so that numpy, torch and mlflow are all a consumer needs. It repeats the plain view of
`models/augmentation/rendering.py` in numpy, down to how OpenCV rounds; the few values that still differ, by one grey
level, are ties of a float sum.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch

from models.networks.graph_archive import load_graph

BATCH = 32


def resize_matrix(before: int, after: int) -> np.ndarray:
    """[after, before] float64 weights of one axis: area-averaged when it shrinks, bilinear when it grows."""
    if after <= before:
        edges = np.arange(after + 1) * (before / after)
        pixel = np.arange(before)
        cover = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        return np.clip(cover, 0, None) * (after / before)
    centre = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    return np.clip(1 - np.abs(centre[:, None] - np.arange(before)), 0, None)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 square [n, n, 3] to [side, side, 3]."""
    if image.shape[0] == side:
        return image
    matrix = resize_matrix(image.shape[0], side)
    rows = np.tensordot(matrix, image.astype(np.float64), axes=(1, 0))
    both = np.tensordot(rows, matrix, axes=(1, 1)).transpose(0, 2, 1)
    # OpenCV halves an image in whole numbers, where a half rounds up; elsewhere it rounds to even.
    halves = image.shape[0] == 2 * side
    return np.clip(np.floor(both + 0.5) if halves else np.rint(both), 0, 255).astype(np.uint8)


def plain_view(image: np.ndarray, view_size: int, input_size: int) -> np.ndarray:
    """uint8 [H, W, 3] RGB of any size to uint8 [input_size, input_size, 3], as the student was evaluated."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    return resize(resize(square, view_size), input_size)


def images_of(data: Any) -> list[np.ndarray]:
    """One image, a batch or a list of images of several sizes -> list of uint8 [H, W, 3]."""
    if not isinstance(data, np.ndarray):
        data = data.to_numpy() if hasattr(data, "to_numpy") else data
    if isinstance(data, np.ndarray) and data.dtype is np.dtype(object) and data.ndim > 1:
        data = np.array(data.tolist())  # equal sizes: what a JSON request becomes
    if isinstance(data, np.ndarray) and data.dtype is not np.dtype(object):
        items = [data] if data.ndim == 3 else list(data)
    else:
        items = list(data)
        if items and np.ndim(items[0]) == 2:
            items = [items]  # one image as nested lists
        elif len(items) == 1 and np.ndim(items[0]) == 4:
            items = list(items[0])
    images = []
    for row, item in enumerate(items):
        image = np.asarray(item.tolist() if getattr(item, "dtype", None) is np.dtype(object) else item)
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"image {row} has shape {image.shape}; expected height x width x 3, RGB")
        if image.dtype != np.uint8:
            if not np.issubdtype(image.dtype, np.integer) or image.min() < 0 or image.max() > 255:
                raise ValueError(f"image {row} has {image.dtype} values; expected whole numbers 0 to 255")
            image = image.astype(np.uint8)
        images.append(image)
    return images


class Student(mlflow.pyfunc.PythonModel):
    """Probabilities float32 [N, C]; the order of the classes stands in the model's metadata."""

    def load_context(self, context: Any) -> None:
        """Read the network and what it needs to know of its input."""
        self.about = json.loads(Path(context.artifacts["about"]).read_text(encoding="utf-8"))
        # The archive may have been exchanged since it was registered.
        self.network = load_graph(Path(context.artifacts["network"]).read_bytes()).module()
        self.mean = np.asarray(self.about["mean"], dtype=np.float32)
        self.std = np.asarray(self.about["std"], dtype=np.float32)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """uint8 RGB [H, W, 3], [N, H, W, 3] or a list of images -> float32 [N, C]."""
        images = images_of(model_input)
        logits = [self._logits(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        if not logits:
            return np.zeros((0, len(self.about["classes"])), dtype=np.float32)
        return self._probabilities(np.concatenate(logits).astype(np.float64)).astype(np.float32)

    def _logits(self, images: list[np.ndarray]) -> np.ndarray:
        about = self.about
        views = np.stack([plain_view(image, about["view_size"], about["input_size"]) for image in images])
        x = (views.astype(np.float32) / 255 - self.mean) / self.std
        with torch.no_grad():
            return self.network(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).numpy()

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        if self.about["task"] == "multilabel":
            return 1 / (1 + np.exp(-logits))
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)


mlflow.models.set_model(Student())
