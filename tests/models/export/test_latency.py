"""Measuring in turns, and the runtimes that are measured; no figure is judged."""

from __future__ import annotations

import numpy as np
import pytest

from models.engines.engine import Network
from models.export.latency import LEAST, MOST, WARM_UP, Latency, interleaved, onnx_run, onnx_runtimes, torch_run
from models.export.onnx_graph import export_onnx
from models.networks.build import build
from models.networks.weight_files import export_pt2, load_pt2

SIDE = 32


def test_runs_take_turns() -> None:
    order: list[str] = []
    runs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    taken = interleaved(runs, seconds=0)
    assert "".join(order) == "a" * WARM_UP + "b" * WARM_UP + "ab" * LEAST
    assert {name: len(each) for name, each in taken.items()} == {"a": LEAST, "b": LEAST}


def test_quick_runs_end_after_the_most() -> None:
    assert len(interleaved({"a": lambda: None}, seconds=60)["a"]) == MOST


def test_median_and_p95_are_in_milliseconds() -> None:
    found = Latency.of(1, 2, "onnxruntime", np.arange(101.0))
    assert found.to_json() == {"batch": 1, "threads": 2, "runtime": "onnxruntime", "median_ms": 50.0, "p95_ms": 95.0}


@pytest.mark.parametrize("runtime", onnx_runtimes())
def test_every_runtime_gives_what_torch_gives(runtime: str) -> None:
    built = build("micro_xs", num_classes=5, seed=3)
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    inputs = ((images / 255 - built.mean) / built.std).astype(np.float32).transpose(0, 3, 1, 2)
    expected = torch_run(load_pt2(export_pt2(built.module, SIDE)), np.ascontiguousarray(inputs))()
    graph = export_onnx(Network(SIDE, built.mean, built.std, 5, module=built.module))
    found = onnx_run(graph, runtime, images, threads=1)()
    np.testing.assert_allclose(np.asarray(found[0]), np.asarray(expected), atol=1e-4)
