"""The model that MLflow serves: photographs in, class probabilities out.

It is the last part of the one file that travels with every registered model as its code (`tasks.register.consumer`).
What is done to a photograph stands in the artifact preprocessing.json.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch

from models.networks.graph_archive import load_graph
from tasks.preprocessing.network_input import Preprocessing
from tasks.preprocessing.unreadable import UnreadableError

BATCH = 32


def images_of(data: Any) -> list[bytes | np.ndarray]:
    """One image or several, of any sizes, in any wrapping -> a list of files' bytes and of pixels uint8 [H, W, 3].

    Raises:
        ValueError: something is neither.
    """
    if not isinstance(data, np.ndarray) and hasattr(data, "to_numpy"):
        data = data.to_numpy()
    if _is_file(data):
        items = [data]
    elif isinstance(data, np.ndarray) and data.dtype.kind == "S":
        raise ValueError(
            "an array of numpy's own byte strings loses the zeros at their ends; pass np.array([data], dtype=object)"
        )
    elif isinstance(data, np.ndarray) and data.size and _is_file(data.flat[0]):
        items = list(data.ravel())
    else:
        items = _pictures(data)
    return [_image(item, row) for row, item in enumerate(items)]


def _is_file(data: Any) -> bool:
    return isinstance(data, bytes | bytearray | memoryview | str)


def _pictures(data: Any) -> list[Any]:
    """Items of a list or array of pictures, or the one that it is."""
    if isinstance(data, np.ndarray) and data.dtype is np.dtype(object) and data.ndim > 1:
        data = np.array(data.tolist())  # equal sizes: what a JSON request becomes
    if isinstance(data, np.ndarray) and data.dtype is not np.dtype(object):
        return [data] if data.ndim == 3 else list(data)
    items = list(data)
    if items and not _is_file(items[0]) and np.ndim(items[0]) == 2:
        return [items]  # one image as nested lists
    if len(items) == 1 and not _is_file(items[0]) and np.ndim(items[0]) == 4:
        return list(items[0])
    return items


def _image(item: Any, row: int) -> bytes | np.ndarray:
    if isinstance(item, str):
        try:
            return base64.b64decode(item, validate=True)
        except binascii.Error:
            raise ValueError(
                f"image {row} is text, but no base64 of a file; pass the bytes of the file, not its name"
            ) from None
    if _is_file(item):
        return bytes(item)
    image = np.asarray(item.tolist() if getattr(item, "dtype", None) is np.dtype(object) else item)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image {row} has shape {image.shape}; expected height x width x 3, RGB, or a file's bytes")
    if image.dtype != np.uint8:
        if not np.issubdtype(image.dtype, np.integer) or image.min() < 0 or image.max() > 255:
            raise ValueError(f"image {row} has {image.dtype} values; expected whole numbers 0 to 255")
        image = image.astype(np.uint8)
    return image


class Student(mlflow.pyfunc.PythonModel):
    """Probabilities float32 [N, C]; the order of the classes stands in the model's metadata."""

    def load_context(self, context: Any) -> None:
        """Read the network and what it needs to know of its input."""
        self.about = json.loads(Path(context.artifacts["about"]).read_text(encoding="utf-8"))
        document = Path(context.artifacts["preprocessing"]).read_text(encoding="utf-8")
        self.preprocessing = Preprocessing.of_document(json.loads(document))
        # The archive may have been exchanged since it was registered.
        self.network = load_graph(Path(context.artifacts["network"]).read_bytes()).module()

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Files' bytes, or photographs uint8 RGB [H, W, 3] or [N, H, W, 3] -> float32 [N, C].

        Raises:
            ValueError: one is no image, or none that may be taken; its place is named.
        """
        images = images_of(model_input)
        found = [np.zeros((0, len(self.about["classes"])), dtype=np.float32)]
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            views = [self.view(image, row) for row, image in enumerate(batch, start)]
            found.append(self.probabilities(np.stack(views)))
        return np.concatenate(found)

    def view(self, image: bytes | np.ndarray, row: int = 0) -> np.ndarray:
        """The plain view uint8 [S, S, 3] of a photograph, as the student was evaluated on it.

        Args:
            row: its place, for the message of an error.
        """
        how = self.preprocessing
        try:
            return how.view(how.stored(image) if isinstance(image, bytes) else how.stored_of_pixels(image))
        except UnreadableError as error:
            raise ValueError(f"image {row}: {error}") from None

    def probabilities(self, views: np.ndarray) -> np.ndarray:
        """Plain views uint8 [B, S, S, 3] -> float32 [B, C]."""
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(self.preprocessing.network_input(views)))
            logits = self.network(x).numpy().astype(np.float64)
        if self.about["task"] == "multilabel":
            return (1 / (1 + np.exp(-logits))).astype(np.float32)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


mlflow.models.set_model(Student())
