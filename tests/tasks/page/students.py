"""Pulled folders of untrained students, and what Python makes of a photograph with them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from models.engines.engine import Network
from models.export.onnx_graph import export_onnx
from models.networks.build import build
from models.statistics.metrics import probabilities
from tasks.preprocessing.network_input import Preprocessing
from tasks.preprocessing.stored_image import ImageRecipe

VIEW, SIDE = 112, 96


@dataclass
class PulledStudent:
    """A folder as `stillroom pull` writes it, as far as the page reads it."""

    folder: Path
    recipe: ImageRecipe
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        classes = self.about.get("classes", ["healthy", "mild", "moderate", "severe"])
        built = build("micro", num_classes=len(classes), seed=3)
        self.preprocessing = Preprocessing(self.recipe, VIEW, SIDE, list(built.mean), list(built.std))
        self.about = {"model": "micro", "task": "single", **self.about, "classes": classes}
        network = Network(SIDE, built.mean, built.std, len(classes), built.module.eval())
        artifacts = self.folder / "artifacts"
        artifacts.mkdir(parents=True)
        self._graph = export_onnx(network)
        (artifacts / "network.onnx").write_bytes(self._graph)
        (artifacts / "about.json").write_text(json.dumps(self.about))
        (artifacts / "preprocessing.json").write_text(json.dumps(self.preprocessing.document()))

    def view(self, data: bytes) -> np.ndarray:
        """uint8 [SIDE, SIDE, 3] that the network is given of a file's bytes."""
        from models.augmentation.plain_view import resize

        return resize(self.preprocessing.view(self.preprocessing.stored(data)), SIDE)

    def probabilities(self, view: np.ndarray) -> np.ndarray:
        """float64 [C] of a view."""
        session = onnxruntime.InferenceSession(self._graph, providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"image": view[None]})
        return np.asarray(probabilities(str(self.about["task"]), np.asarray(logits, np.float64)))[0]
