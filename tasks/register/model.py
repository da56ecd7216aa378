"""The student as an MLflow model that needs nothing of ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from infra.errors import PermanentError
from infra.servers.tracking import quiet
from infra.storage.manifest import Manifest
from models.networks.weight_files import export_pt2
from tasks.data.corpus import Corpus
from tasks.data.decisions import decision_of
from tasks.data.trained_network import load_trained_network
from tasks.preprocessing.network_input import Preprocessing
from tasks.preprocessing.stored_image import BITS_FACT, recipe_of
from tasks.register.consumer import consumer_code

_REQUIRED = ("mlflow", "numpy", "opencv-python-headless", "pillow", "torch")

INPUT = (
    "numpy array of objects, each the bytes of an image file as the device wrote it (in JSON: base64); or whole "
    "photographs decoded by the caller, upright, RGB: uint8 [height, width, 3], [N, height, width, 3], or an object "
    "array of several sizes. Do not crop, mask, resize or encode before: artifacts/preprocessing.json says what the "
    "model does"
)

OUTPUT = "probabilities float32 [N, C] in the order of classes"
GRADES = (
    "the grade is the number of cut_points at or below the expected grade, which is the sum of k * p_k; P(referable) "
    "is the sum of p_k over k >= referable, after p ** (1 / temperature) is scaled to sum 1; null: not known"
)
CLASSES = (
    "the class is the argmax of log p + logit_shift, which was chosen on validation for the metric decide_for; the "
    "argmax of p alone is the likeliest class"
)


def pack(corpus: Corpus, chosen: Manifest, folder: Path, mlflow_model: Any, report: Manifest | None = None) -> Path:
    """Save the student under `folder`/model as a pyfunc: one code file, a `.pt2` graph and two small JSON files.

    Args:
        chosen: manifest of the student.
        folder: an empty folder.
        mlflow_model: an `mlflow.models.Model` that already knows its run and id.
        report: the evaluation that judged it; it says how the probabilities are read.

    Raises:
        PermanentError: the network cannot be exported, its weights do not fit, or nobody knows how its images were
            stored.
    """
    facts = chosen.facts
    network = load_trained_network(corpus, chosen)
    try:
        graph = export_pt2(network.module, network.input_size)
    except ValueError as error:
        raise PermanentError(f"{facts['model']} seed {facts['seed']}: {error}") from error
    about = {k: facts[k] for k in ("model", "task", "classes", "view_size", "input_size", "mean", "std")}
    decision = {} if report is None else decision_of(report.facts, facts["arm"], facts["seed"])
    about |= decision
    document = preprocessing_of(corpus.manifest, facts).document()
    source = folder / "source"
    source.mkdir()
    (source / "network.pt2").write_bytes(graph)
    (source / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
    (source / "preprocessing.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (source / "student.py").write_text(consumer_code(), encoding="utf-8")
    target = folder / "model"
    with quiet():
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        mlflow.pyfunc.save_model(
            target,
            python_model=str(source / "student.py"),
            artifacts={
                "network": str(source / "network.pt2"),
                "about": str(source / "about.json"),
                "preprocessing": str(source / "preprocessing.json"),
            },
            # A tensor of objects is MLflow's only input that lets one image and a batch of them pass.
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(about["classes"])))]),
            ),
            input_example=_example(),
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIRED],
            metadata={
                **about,
                "input": INPUT,
                "output": OUTPUT,
                **({"grades": GRADES} if "cut_points" in about else {}),
                **({"decision": CLASSES} if "logit_shift" in about else {}),
            },
            mlflow_model=mlflow_model,
        )
    return target


def preprocessing_of(ingest: Manifest, facts: Mapping[str, Any]) -> Preprocessing:
    """What a student's images went through, as the manifest of their ingest and the facts of its training say.

    Raises:
        PermanentError: the manifest does not say it.
    """
    try:
        recipe = recipe_of(ingest.section, ingest.facts.get(BITS_FACT))
    except (KeyError, TypeError) as error:
        raise PermanentError(
            f"ingest manifest {ingest.key[:12]} does not say how images were stored ({error}); ingest the corpus again"
        ) from None
    return Preprocessing(recipe, facts["view_size"], facts["input_size"], facts["mean"], facts["std"])


def _example() -> np.ndarray:
    """Two small pictures of nothing, as JSON has them: an input example must never show a patient."""
    ramp = np.linspace(0, 255, 24).astype(np.uint8)
    image = np.stack([np.tile(ramp, (16, 1)), np.tile(ramp[::-1], (16, 1)), np.full((16, 24), 128, np.uint8)], axis=2)
    files = [cv2.imencode(".png", picture)[1].tobytes() for picture in (image, image[:, ::-1])]
    return np.array([base64.b64encode(file).decode() for file in files], dtype=object)
