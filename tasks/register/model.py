"""The student as an MLflow model that needs nothing of ours, and the proof that it answers as evaluated."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from infra.errors import PermanentError, UsageError
from infra.servers.tracking import quiet
from infra.storage.manifest import Manifest
from models.augmentation.rendering import decode
from models.networks.weight_files import export_pt2
from tasks.data.corpus import Corpus, read_image
from tasks.data.decisions import decision_of
from tasks.data.trained_network import load_trained_network
from tasks.register.consumer import consumer_code

TOLERANCE = 0.05  # largest difference of a probability; ties of numpy's and OpenCV's resizing move single values by one
CHECKED = 8  # test images of the parity check

INPUT = (
    "one RGB image uint8 [height, width, 3], a batch uint8 [N, height, width, 3], or an object array of images of "
    "several sizes"
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


@dataclass(frozen=True)
class Parity:
    """How far the packed model's probabilities are from those of the evaluation."""

    largest: float
    images: int


def pack(corpus: Corpus, chosen: Manifest, folder: Path, mlflow_model: Any, report: Manifest | None = None) -> Path:
    """Save the student under `folder`/model as a pyfunc: one code file, a `.pt2` graph and a small JSON.

    Args:
        chosen: manifest of the student.
        folder: an empty folder.
        mlflow_model: an `mlflow.models.Model` that already knows its run and id.
        report: the evaluation that judged it; it says how the probabilities are read.

    Raises:
        PermanentError: the network cannot be exported, or its weights do not fit.
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
    source = folder / "source"
    source.mkdir()
    (source / "network.pt2").write_bytes(graph)
    (source / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
    (source / "student.py").write_text(consumer_code(), encoding="utf-8")
    target = folder / "model"
    with quiet():
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        mlflow.pyfunc.save_model(
            target,
            python_model=str(source / "student.py"),
            artifacts={"network": str(source / "network.pt2"), "about": str(source / "about.json")},
            # A tensor of objects is MLflow's only input that lets one image and a batch of them pass.
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(about["classes"])))]),
            ),
            input_example=_example(),
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "numpy", "torch")],
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


def parity(corpus: Corpus, chosen: Manifest, report: Manifest, packed: Path) -> Parity:
    """Compare the packed model with the evaluation's predictions on a few test images.

    Raises:
        PermanentError: a probability differs by more than `TOLERANCE`; the image's key is named.
        UsageError: the report does not judge this student.
    """
    expected = _predictions(corpus, chosen, report)
    keys = sorted(expected)
    picked = keys[:: max(1, len(keys) // CHECKED)][:CHECKED]
    rows = {str(k): (shard, r) for shard in corpus.of_split("test") for r, k in enumerate(shard.keys)}
    with quiet():
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(str(packed))
    largest = 0.0
    for key in picked:
        shard, row = rows[key]
        found = model.predict(decode(read_image(corpus.store, shard, row)))
        gap = float(np.abs(found[0] - expected[key]).max())
        if not gap <= TOLERANCE:
            raise PermanentError(
                f"the packed student differs by {gap:.3f} from its evaluation on test image {key} "
                f"(at most {TOLERANCE} is allowed), so it is not registered; report this with the model's name"
            )
        largest = max(largest, gap)
    return Parity(largest, len(picked))


def _predictions(corpus: Corpus, chosen: Manifest, report: Manifest) -> dict[str, np.ndarray]:
    facts: Mapping[str, Any] = chosen.facts
    table = pq.read_table(
        io.BytesIO(corpus.store.get(report.output(kind="predictions").name)),
        filters=[("arm", "=", facts["arm"]), ("seed", "=", facts["seed"]), ("split", "=", "test")],
    )
    if not table.num_rows:
        raise UsageError(f"report {report.key[:12]} does not judge {facts['arm']} seed {facts['seed']}")
    return dict(zip(table["key"].to_pylist(), map(np.array, table["prob"].to_pylist()), strict=True))


def _example() -> np.ndarray:
    """Two small pictures of nothing: an input example must never show a patient."""
    ramp = np.linspace(0, 255, 24).astype(np.uint8)
    image = np.stack([np.tile(ramp, (16, 1)), np.tile(ramp[::-1], (16, 1)), np.full((16, 24), 128, np.uint8)], axis=2)
    return np.stack([image, image[:, ::-1]])
