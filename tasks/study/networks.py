"""What each network of a study costs to run: parameters, bytes of its file, milliseconds of one image.

All networks are measured in turns within one run (as `tests.bench.latency` does), so that other load of the machine
falls on all alike. Times are those of the machine that makes the table, and enter no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.digest import digest_of
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from models.engines.engine import Network
from models.export.latency import ONNXRUNTIME, Latency, interleaved, onnx_run
from models.export.onnx_graph import export_onnx
from tasks.data.corpus import Corpus
from tasks.data.trained_network import load_trained_network
from tasks.study.design import Cell

SECONDS = 0.5
"""Of measuring one network."""


@dataclass(frozen=True)
class NetworkCost:
    """Attributes:
    bytes: of the float32 ONNX file; of the weights where the network cannot be exported.
    latency_ms: median of one image on one thread in ONNX Runtime, normalisation included; None: not exported.
    """

    bytes: int
    latency_ms: float | None


def network_costs(
    store: Store, models: Mapping[Cell, Manifest], *, seconds: float = SECONDS
) -> dict[Cell, NetworkCost]:
    """Costs of the networks of some arms; arms of one network share one measurement.

    Args:
        models: a manifest of stage distill or teach for each; weights do not change what is computed.
    """
    kinds = {cell: _kind(model) for cell, model in models.items()}
    first = {kind: models[cell] for cell, kind in reversed(kinds.items())}
    graphs = {kind: _graph(store, model) for kind, model in first.items()}
    runs = {
        kind: onnx_run(graph, ONNXRUNTIME, _image(first[kind]), 1)
        for kind, graph in graphs.items()
        if graph is not None
    }
    taken = {kind: Latency.of(1, 1, ONNXRUNTIME, ms) for kind, ms in interleaved(runs, seconds=seconds).items()}
    found = {}
    for cell, kind in kinds.items():
        graph = graphs[kind]
        size = first[kind].output(kind="model").bytes if graph is None else len(graph)
        found[cell] = NetworkCost(size, taken[kind].median_ms if kind in taken else None)
    return found


def _kind(model: Manifest) -> str:
    facts: dict[str, Any] = model.facts
    return digest_of([facts[name] for name in ("model", "options", "num_classes", "input_size", "mean", "std")])


def _graph(store: Store, model: Manifest) -> bytes | None:
    trained = load_trained_network(Corpus(store, model), model)
    network = Network(
        trained.input_size, trained.mean, trained.std, int(model.facts["num_classes"]), module=trained.module
    )
    try:
        return export_onnx(network)
    except ValueError:
        return None


def _image(model: Manifest) -> np.ndarray:
    side = int(model.facts["input_size"])
    return np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
