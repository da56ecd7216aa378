"""The model that MLflow serves: photographs in, an answer an image out.

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
from tasks.register.answers import answer_names, answer_of

BATCH = 32


COLUMN = "image"
"""Name of the input where inputs have names."""


def images_of(data: Any) -> list[bytes | np.ndarray]:
    """One image or several, of any sizes, in any wrapping -> a list of files' bytes and of pixels uint8 [H, W, 3].

    Raises:
        ValueError: something is neither.
    """
    return [image_of(item, row) for row, item in enumerate(items_of(data))]


def items_of(data: Any) -> list[Any]:
    """One item for each image of an input: a table, a dictionary, a list, an array, or one image alone.

    Raises:
        ValueError: an array of numpy's own byte strings.
    """
    if hasattr(data, "columns"):
        return _of_table(data)
    if isinstance(data, dict):
        return items_of(data[COLUMN]) if COLUMN in data else [data]
    if not isinstance(data, np.ndarray) and hasattr(data, "to_numpy"):
        data = data.to_numpy()
    if _is_file(data):
        return [data]
    if isinstance(data, np.ndarray):
        if data.dtype.kind == "S":
            raise ValueError(
                "an array of numpy's own byte strings loses the zeros at their ends; pass np.array([data], "
                "dtype=object)"
            )
        if data.size and _is_file(data.flat[0]):
            return list(data.ravel())
    return _pictures(data)


def _of_table(table: Any) -> list[Any]:
    """Items of a table: its column `image`, or the only one."""
    if COLUMN in table.columns:
        return list(table[COLUMN])
    if len(table.columns) == 1:
        return list(table[table.columns[0]])
    return [{}] * len(table)


def _is_file(data: Any) -> bool:
    return isinstance(data, bytes | bytearray | memoryview | str)


def _pictures(data: Any) -> list[Any]:
    """Items of a list or array of pictures, or the one that it is."""
    if isinstance(data, np.ndarray) and data.dtype is np.dtype(object) and data.ndim > 1:
        data = np.array(data.tolist())  # equal sizes: what a JSON request becomes
    if isinstance(data, np.ndarray) and data.dtype is not np.dtype(object):
        return [data] if data.ndim in (0, 3) else list(data)
    if not isinstance(data, list | tuple | np.ndarray) or (isinstance(data, np.ndarray) and data.ndim == 0):
        return [data]
    items = list(data)
    if items and not _is_file(items[0]) and not isinstance(items[0], dict) and _depth(items[0]) == 2:
        return [items]  # one image as nested lists
    if len(items) == 1 and not _is_file(items[0]) and _depth(items[0]) == 4:
        return list(items[0])
    return items


def _depth(item: Any) -> int:
    """Dimensions of nested lists or of an array, by their first elements."""
    if isinstance(item, np.ndarray):
        return item.ndim
    return 1 + _depth(item[0]) if isinstance(item, list | tuple) and item else int(isinstance(item, list | tuple))


def image_of(item: Any, row: int) -> bytes | np.ndarray:
    """One image of an item of `items_of`.

    Args:
        row: its place, for the message of an error.

    Raises:
        ValueError: it is none.
    """
    if isinstance(item, dict):
        if COLUMN not in item:
            raise ValueError(f"image {row}: the row has no value named {COLUMN}")
        item = item[COLUMN]
    if isinstance(item, np.ndarray) and item.ndim == 0:
        item = item.item()
    if item is None or isinstance(item, float):
        raise ValueError(f"image {row} is missing; give the bytes of a file, in JSON as base64")
    if isinstance(item, str):
        try:
            return base64.b64decode(item, validate=True)
        except binascii.Error:
            raise ValueError(
                f"image {row} is text, but no base64 of a file; pass the bytes of the file, not its name"
            ) from None
    if _is_file(item):
        return bytes(item)
    try:
        image = np.asarray(item.tolist() if getattr(item, "dtype", None) is np.dtype(object) else item)
    except ValueError:
        raise ValueError(f"image {row} has rows of several lengths; expected height x width x 3") from None
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image {row} has shape {image.shape}; expected height x width x 3, RGB, or a file's bytes")
    if image.dtype != np.uint8:
        if not np.issubdtype(image.dtype, np.integer) or image.min() < 0 or image.max() > 255:
            raise ValueError(f"image {row} has {image.dtype} values; expected whole numbers 0 to 255")
        image = image.astype(np.uint8)
    return image


class Student(mlflow.pyfunc.PythonModel):
    """A table with a row an image; what its columns mean stands in the model's metadata."""

    def load_context(self, context: Any) -> None:
        """Read the network and what it needs to know of its input."""
        self.about = json.loads(Path(context.artifacts["about"]).read_text(encoding="utf-8"))
        document = Path(context.artifacts["preprocessing"]).read_text(encoding="utf-8")
        self.preprocessing = Preprocessing.of_document(json.loads(document))
        # The archive may have been exchanged since it was registered.
        self.network = load_graph(Path(context.artifacts["network"]).read_bytes()).module()

    # Of this type hint MLflow makes no schema, and it does not warn of it, as of others or of none.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """Images in any wrapping -> a DataFrame with a row an image: the keys of `answers` and `error`.

        An image that cannot be looked at has a text in `error` and nothing else; others have None there.
        """
        import pandas as pd

        names = [*answer_names(self.about), "error"]
        rows = [{**dict.fromkeys(names), **each} for each in self.answers(items_of(model_input))]
        return pd.DataFrame(rows, columns=names, dtype=object)

    def answers(self, items: list[Any]) -> list[dict[str, Any]]:
        """One answer an item (`answer_of`), or {"error": text} for one that cannot be looked at."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(items), BATCH):
            batch = [self._looked_at(item, row) for row, item in enumerate(items[start : start + BATCH], start)]
            views = [each for each in batch if not isinstance(each, str)]
            prob = iter(self.probabilities(np.stack(views)) if views else ())
            found += [
                {"error": each} if isinstance(each, str) else {**answer_of(self.about, next(prob)), "error": None}
                for each in batch
            ]
        return found

    def probabilities_of(self, data: Any) -> np.ndarray:
        """Files' bytes, or photographs uint8 RGB [H, W, 3] or [N, H, W, 3] -> float32 [N, C].

        Raises:
            ValueError: one is no image, or none that may be taken; its place is named.
        """
        images = images_of(data)
        found = [np.zeros((0, len(self.about["classes"])), dtype=np.float32)]
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            views = [self.view(image, row) for row, image in enumerate(batch, start)]
            found.append(self.probabilities(np.stack(views)))
        return np.concatenate(found)

    def _looked_at(self, item: Any, row: int) -> np.ndarray | str:
        """The plain view of an item, or why there is none."""
        try:
            return self.view(image_of(item, row), row)
        except ValueError as error:
            return str(error)
        except Exception as error:
            # A library may raise anything on what strangers send; its text might quote the picture.
            return f"image {row} cannot be looked at ({type(error).__name__})"

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
