"""Students of random weights as MLflow loads them, and what an evaluation would show a network of the same file."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from models.augmentation.draws import Draw, ViewRecipe
from models.augmentation.rendering import decode, render
from models.networks.build import build
from models.networks.weight_files import export_pt2
from tasks.ingest.pixels import ImageRecipe, encode_image
from tasks.preprocessing.network_input import Preprocessing

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def recipe(**rest: Any) -> ImageRecipe:
    """A recipe of ingestion: JPEG of 48 pixels unless `rest` says otherwise."""
    return ImageRecipe(**{"size": 48, "encode": "jpeg", "quality": 92, "crop": "none", "max_pixels": 10**7, **rest})


def preprocessing(own: ImageRecipe | None = None, view: int = 40, side: int = 32) -> Preprocessing:
    """That of a student whose corpus was stored by a recipe."""
    return Preprocessing(own or recipe(), view, side, MEAN, STD)


def artifacts_of(folder: Path, document: dict[str, Any], graph: bytes | None = None) -> SimpleNamespace:
    """What MLflow hands to `load_context`.

    Args:
        document: of the preprocessing.
        graph: of the network; default one of random weights for three classes and a side of 32.
    """
    (folder / "network.pt2").write_bytes(graph or export_pt2(build("micro_xs", num_classes=3).module, 32))
    (folder / "about.json").write_text(json.dumps({"classes": ["a", "b", "c"], "task": "single"}))
    (folder / "preprocessing.json").write_text(json.dumps(document))
    names = {"network": "network.pt2", "about": "about.json", "preprocessing": "preprocessing.json"}
    return SimpleNamespace(artifacts={kind: str(folder / name) for kind, name in names.items()})


def student_of(code: ModuleType, folder: Path, own: ImageRecipe | None = None) -> Any:
    """A student whose corpus was stored by a recipe."""
    student = code.Student()
    student.load_context(artifacts_of(folder, preprocessing(own).document()))
    return student


def evaluated_view(data: bytes, own: ImageRecipe) -> np.ndarray:
    """The plain view that an evaluation renders of what ingestion stores of a file, uint8 [40, 40, 3]."""
    return render(decode(encode_image(data, own).data), ViewRecipe(size=preprocessing(own).view_size), Draw())
