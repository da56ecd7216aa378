"""How long exported graphs take on this machine's processor, each through the runtimes that are installed.

Runs are interleaved: one of each, then again, so that other load of the machine falls on all alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import torch

from models.export.onnx_graph import INPUT

ONNXRUNTIME, OPENVINO, TORCH = "onnxruntime", "openvino", "torch"

WARM_UP = 3  # runs that are not counted: the first ones allocate
LEAST, MOST = 5, 200
"""Fewest and most runs of each; between them the time decides."""

Run = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)

_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one pass over `batch` images on `threads` threads."""

    batch: int
    threads: int
    runtime: str
    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, batch: int, threads: int, runtime: str, taken_ms: np.ndarray) -> Latency:
        """Of the milliseconds of single runs [R]."""
        median, high = (round(float(value), 4) for value in np.percentile(taken_ms, [50, 95]))
        return cls(batch, threads, runtime, median, high)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def onnx_runtimes() -> list[str]:
    """The runtimes of ONNX files that are installed."""
    return [name for name in (ONNXRUNTIME, OPENVINO) if find_spec(name) is not None]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def interleaved(runs: Mapping[Name, Run], *, seconds: float) -> dict[Name, np.ndarray]:
    """Milliseconds [R] of each run, measured in turns.

    Args:
        seconds: for each run together, within `LEAST` and `MOST` runs.
    """
    taken: dict[Name, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    end = time.perf_counter() + seconds * len(runs)
    for turn in range(MOST):
        if turn >= LEAST and time.perf_counter() > end:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(each) for name, each in taken.items()}


def onnxruntime_session(graph: bytes, threads: int) -> Any:
    """A session of ONNX Runtime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    # Threads that spin would take the processor from what is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


def openvino_request(graph: bytes, threads: int, precision: str = "f32") -> Any:
    """A request of OpenVINO on the processor.

    Args:
        precision: f32 or bf16, of what the graph itself does not quantise.
    """
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(core.read_model(graph), "CPU", options).create_infer_request()


def onnx_run(graph: bytes, runtime: str, images: np.ndarray, threads: int, precision: str = "f32") -> Run:
    """One pass of an ONNX graph over uint8 [B, S, S, 3], ready to be called.

    Args:
        runtime: one of `onnx_runtimes`.
        precision: as of `openvino_request`; ONNX Runtime computes as the graph says.
    """
    if runtime == OPENVINO:
        request = openvino_request(graph, threads, precision)
        return lambda: request.infer({0: images}, share_inputs=True)
    session = onnxruntime_session(graph, threads)
    return lambda: session.run(None, {INPUT: images})


def torch_run(network: torch.nn.Module, inputs: np.ndarray) -> Run:
    """One pass of a network over float32 [B, 3, S, S] on torch's threads, ready to be called."""
    x = torch.from_numpy(inputs)

    def run() -> object:
        with torch.inference_mode():
            return network(x)

    return run
