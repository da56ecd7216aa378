"""How long our students take beside MobileNetV2 and EfficientNet-Lite0: `python -m tests.bench.latency [--quick]`.

One image of 224 px on one thread, all networks in every runtime that is installed, in turns within one run: ONNX
Runtime in float32 and int8, OpenVINO in float32, bfloat16 (where the processor has it) and int8. Each graph takes uint8
images, so that normalisation is part of every figure. Weights are random: they do not change what is computed.

The last line is {"figures": ..., "ratios": {"mobilenetv2": ..., "lite0": ...}}: milliseconds by network and format,
and how many times as long the rivals take as `micro`, each runtime against itself and best against best. Targets:
float32 in ONNX Runtime at least 6 times MobileNetV2, best at least 10 times MobileNetV2's best.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import numpy as np
import torch

from infra.machine import machine_kind
from models.engines.engine import Network
from models.export.cost import cost_of
from models.export.int8 import to_int8
from models.export.latency import ONNXRUNTIME, OPENVINO, Latency, Run, interleaved, onnx_run, onnx_runtimes
from models.export.onnx_graph import export_onnx
from models.networks.build import build

SIDE, CLASSES, SEEDS = 224, 8, 16
OURS = "micro"
CUT = {"cut": {"after": "blocks.2", "width": 96}}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: ("micro", {}),
    "cut": ("tf_efficientnet_lite0", CUT),
    "mobilenetv2": ("mobilenetv2_100", {}),
    "lite0": ("tf_efficientnet_lite0", {}),
}
RIVALS = ("mobilenetv2", "lite0")


def main() -> None:
    """Measure, print the table for people, then the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few passes of each, to see that it works")
    quick = parser.parse_args().quick
    figures = measure(seconds=0.1 if quick else 4.0, rounds=1 if quick else 3)
    ratios = {rival: ratios_of(figures["ms"], rival) for rival in RIVALS}
    show(figures, ratios)
    print(json.dumps({"figures": figures, "ratios": ratios}))


def measure(*, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of every network in every format, and what each network costs.

    Args:
        seconds: for each network and format in a round.
        rounds: whose passes are taken together.
    """
    torch.set_num_threads(1)
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    before = os.getloadavg()[0]
    runs: dict[tuple[str, str], Run] = {}
    networks: dict[str, dict[str, int]] = {}
    for name, (model, options) in NETWORKS.items():
        built = build(model, num_classes=CLASSES, options=options, size=SIDE)
        cost = cost_of(built.module, SIDE)
        graph = export_onnx(Network(SIDE, built.mean, built.std, CLASSES, module=built.module))
        int8 = to_int8(graph, photographs())
        networks[name] = {
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
            "bytes": len(graph),
            "int8_bytes": len(int8),
        }
        for form, run in formats(graph, int8, image).items():
            runs[name, form] = run
    taken: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, each in interleaved(runs, seconds=seconds).items():
            taken[key].append(each)
    ms: dict[str, dict[str, dict[str, float]]] = {name: {} for name in NETWORKS}
    for (name, form), parts in taken.items():
        found = Latency.of(1, 1, form, np.concatenate(parts))
        ms[name][form] = {"median": found.median_ms, "p95": found.p95_ms}
    return {
        "ms": ms,
        "networks": networks,
        "machine": machine_kind("cpu", 1),
        "load": [round(before, 2), round(os.getloadavg()[0], 2)],
    }


def formats(graph: bytes, int8: bytes, image: np.ndarray) -> dict[str, Run]:
    """A pass of each format that this machine runs, by runtime and precision."""
    found = {f"{ONNXRUNTIME} float32": onnx_run(graph, ONNXRUNTIME, image, 1)}
    found[f"{ONNXRUNTIME} int8"] = onnx_run(int8, ONNXRUNTIME, image, 1)
    if OPENVINO in onnx_runtimes():
        found[f"{OPENVINO} float32"] = onnx_run(graph, OPENVINO, image, 1)
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            found[f"{OPENVINO} bfloat16"] = onnx_run(graph, OPENVINO, image, 1, precision="bf16")
        found[f"{OPENVINO} int8"] = onnx_run(int8, OPENVINO, image, 1)
    return found


def photographs() -> np.ndarray:
    """Smooth pictures to calibrate on, uint8 [N, S, S, 3]."""
    small = np.random.default_rng(1).random((SEEDS, 7, 7, 3), np.float32)
    side = SIDE // 7
    return (255 * small.repeat(side, axis=1).repeat(side, axis=2)).astype(np.uint8)


def ratios_of(ms: dict[str, dict[str, dict[str, float]]], rival: str) -> dict[str, float]:
    """How many times as long a rival takes as ours, by format, and `best`: its quickest over our quickest."""
    ours, theirs = ms[OURS], ms[rival]
    found = {form: round(theirs[form]["median"] / ours[form]["median"], 2) for form in ours}
    best = [min(each["median"] for each in rows.values()) for rows in (theirs, ours)]
    return {**found, "best": round(best[0] / best[1], 2)}


def show(figures: dict[str, Any], ratios: dict[str, dict[str, float]]) -> None:
    """The table for people."""
    print(f"one image of {SIDE} px on one thread, median (p95) in ms; {figures['machine']}")
    print(f"load of the machine before and after: {figures['load'][0]}, {figures['load'][1]}")
    forms = list(figures["ms"][OURS])
    print(f"{'network':14}{'parameters':>12}{'M mult-adds':>13}{'kB':>8}" + "".join(f"{form:>23}" for form in forms))
    for name, rows in figures["ms"].items():
        of = figures["networks"][name]
        row = f"{name:14}{of['parameters']:>12,}{of['multiply_adds'] / 1e6:>13.1f}{of['bytes'] / 1000:>8.0f}"
        cells = (f"{rows[form]['median']:.2f} ({rows[form]['p95']:.2f})" for form in forms)
        print(row + "".join(f"{cell:>23}" for cell in cells))
    for rival, each in ratios.items():
        told = ", ".join(f"{form} {value}" for form, value in each.items())
        print(f"{rival} takes times as long as {OURS}: {told}")


if __name__ == "__main__":
    main()
