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
from infra.storage.stage_cache import read_output
from models.engines.engine import Network
from models.export.onnx_graph import export_onnx
from models.networks.weight_files import export_pt2
from tasks.data.corpus import Corpus
from tasks.data.decisions import decision_of
from tasks.data.export_formats import FILES, INT8, ONNX, PT2
from tasks.data.trained_network import load_trained_network
from tasks.preprocessing.network_input import Preprocessing
from tasks.preprocessing.stored_image import BITS_FACT, recipe_of
from tasks.register.consumer import consumer_code
from tasks.register.judged import Judged

_REQUIRED = ("mlflow", "numpy", "opencv-python-headless", "pillow", "torch")

NOTHING = Judged()
CODE = "student.py"
_ARTIFACTS = {
    FILES[PT2]: "network",
    FILES[ONNX]: "onnx",
    FILES[INT8]: "onnx_int8",
    "about.json": "about",
    "preprocessing.json": "preprocessing",
    "model_card.md": "model_card",
}
"""Names that MLflow gives the files."""

INPUT = (
    "a table with the column image, a list, or one image alone; an image is the bytes of a file as the device wrote it "
    "(in JSON: base64), or a whole photograph decoded by the caller, upright, RGB uint8 [height, width, 3]. Over HTTP "
    "dataframe_records, dataframe_split, instances and inputs all do. Do not crop, mask, resize or encode before: "
    "artifacts/preprocessing.json says what the model does"
)

OUTPUT = (
    "a table with a row an image: class, probability (of that class), probabilities (of every class); where they are "
    "known grade, p_referable and refer (at the shipped operating point); error: why an image has no answer, else null"
)
GRADES = (
    "the grade is the number of cut_points at or below the expected grade, which is the sum of k * p_k; P(referable) "
    "is the sum of p_k over k >= referable, after p ** (1 / temperature) is scaled to sum 1; null: not known"
)
CLASSES = (
    "the class is the argmax of log p + logit_shift, which was chosen on validation for the metric decide_for; the "
    "argmax of p alone is the likeliest class"
)


def pack(corpus: Corpus, chosen: Manifest, folder: Path, mlflow_model: Any, judged: Judged = NOTHING) -> Path:
    """Save the student under `folder`/model, loadable as a pyfunc and by `mlflow.onnx`.

    Beside MLmodel and student.py, the code, artifacts/ has network.pt2, network.onnx, network.int8.onnx where int8 is
    offered, about.json, preprocessing.json and model_card.md where there is one. Nothing in it names a place of this
    machine.

    Args:
        chosen: manifest of the student.
        folder: an empty folder.
        mlflow_model: an `mlflow.models.Model` that already knows its run and id.

    Raises:
        PermanentError: the network cannot be exported, its weights do not fit, the export is of another student, or
            nobody knows how its images were stored.
    """
    about = about_of(chosen, judged)
    document = preprocessing_of(corpus.manifest, chosen.facts).document()
    source = folder / "source"
    source.mkdir()
    files = {FILES[kind]: data for kind, data in _graphs(corpus, chosen, judged.export).items()}
    files["about.json"] = json.dumps(about, indent=1, ensure_ascii=False).encode()
    files["preprocessing.json"] = json.dumps(document, indent=1).encode()
    if judged.card is not None:
        files["model_card.md"] = judged.card.encode()
    for name, data in files.items():
        (source / name).write_bytes(data)
    (source / CODE).write_text(consumer_code(), encoding="utf-8")
    target = folder / "model"
    with quiet():
        import mlflow.pyfunc
        import onnx

        mlflow_model.add_flavor(
            "onnx", onnx_version=onnx.__version__, data=f"artifacts/{FILES[ONNX]}", providers=["CPUExecutionProvider"]
        )
        mlflow.pyfunc.save_model(
            target,
            python_model=str(source / CODE),
            artifacts={_ARTIFACTS[name]: str(source / name) for name in files},
            # None: a signature takes strings or arrays, never both; and what does not fit it, MLflow quotes in its
            # answer and its log, which would be the picture. The student itself says what is wrong with which row.
            signature=False,
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
        _forget_places(mlflow_model)
        mlflow_model.save(target / "MLmodel")
    return target


def about_of(chosen: Manifest, judged: Judged) -> dict[str, Any]:
    """about.json: the student's network, how its probabilities are read, and the operating point, as far as known."""
    facts = chosen.facts
    about = {k: facts[k] for k in ("model", "task", "classes", "view_size", "input_size", "mean", "std")}
    if judged.report is not None:
        about |= decision_of(judged.report.facts, facts["arm"], facts["seed"])
    point = None if judged.gate is None else judged.gate.facts.get("operating_point")
    return about if point is None else {**about, "operating_point": point}


def _graphs(corpus: Corpus, chosen: Manifest, export: Manifest | None) -> dict[str, bytes]:
    """Bytes of each format by its kind."""
    if export is not None:
        if export.facts["student"] != chosen.key:
            raise PermanentError(f"export {export.key[:12]} is of student {export.facts['student'][:12]}, not this one")
        kinds = [output.meta["kind"] for output in export.outputs]
        return {kind: read_output(corpus.store, export.output(kind=kind)) for kind in kinds}
    facts = chosen.facts
    network = load_trained_network(corpus, chosen)
    about = Network(network.input_size, network.mean, network.std, len(facts["classes"]), module=network.module)
    try:
        return {PT2: export_pt2(network.module, network.input_size), ONNX: export_onnx(about)}
    except ValueError as error:
        raise PermanentError(f"{facts['model']} seed {facts['seed']}: {error}") from error


def _forget_places(mlflow_model: Any) -> None:
    """Name the files where they lie in the model, not where they were copied from."""
    own = mlflow_model.flavors["python_function"]
    own["model_code_path"] = CODE
    for artifact in own["artifacts"].values():
        artifact["uri"] = artifact["path"]


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


def _example() -> Any:
    """Two small pictures of nothing, as JSON has them: an input example must never show a patient."""
    import pandas as pd

    ramp = np.linspace(0, 255, 24).astype(np.uint8)
    image = np.stack([np.tile(ramp, (16, 1)), np.tile(ramp[::-1], (16, 1)), np.full((16, 24), 128, np.uint8)], axis=2)
    files = [cv2.imencode(".png", picture)[1].tobytes() for picture in (image, image[:, ::-1])]
    return pd.DataFrame({"image": [base64.b64encode(file).decode() for file in files]})
