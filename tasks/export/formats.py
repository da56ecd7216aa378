"""A student in every format: made, compared with PyTorch, timed, and offered or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infra.digest import sha256_bytes
from infra.errors import PermanentError
from infra.machine import machine_kind
from infra.storage.manifest import Manifest
from models.engines.engine import Network
from models.engines.normalised_graph import Normalised
from models.export.cost import Cost, cost_of
from models.export.int8 import to_int8
from models.export.latency import ONNXRUNTIME, TORCH, Latency, cores, onnx_runtimes
from models.export.onnx_graph import INPUT, IR, OPSET, OUTPUT, export_onnx
from models.networks.weight_files import export_pt2
from tasks.data.corpus import Corpus
from tasks.data.export_formats import INT8, ONNX, PT2
from tasks.data.trained_network import TrainedNetwork, load_trained_network
from tasks.export.answers import answers
from tasks.export.images import ComparedImages, calibration_images, compared_images
from tasks.export.parity import Parity, compare
from tasks.export.timings import int8_offer, timings

_BLOCK = 32  # images of a pass of PyTorch


@dataclass(frozen=True)
class Format:
    """An exported file and what is known of it.

    Attributes:
        name: pt2, onnx or onnx_int8.
        data: None where it could not be made.
        parity: of int8 in the runtime that is furthest off, since a user may run any.
        why: it is offered or not; "" where that is a matter of course.
    """

    name: str
    data: bytes | None
    parity: Parity | None
    latency: tuple[Latency, ...]
    offered: bool
    why: str

    def to_json(self) -> dict[str, Any]:
        """{format, opset, ir, bytes, sha256, parity, latency, offered, why}, JSON-safe.

        `parity` is `Parity.to_json`, `latency` a list of `Latency.to_json`; what is unknown is null.
        """
        versioned = self.name != PT2 and self.data is not None
        return {
            "format": self.name,
            "opset": OPSET if versioned else None,
            "ir": IR if versioned else None,
            "bytes": None if self.data is None else len(self.data),
            "sha256": None if self.data is None else sha256_bytes(self.data),
            "parity": None if self.parity is None else self.parity.to_json(),
            "latency": [row.to_json() for row in self.latency],
            "offered": self.offered,
            "why": self.why,
        }


@dataclass(frozen=True)
class Exported:
    """A student's formats, what its network takes and gives, and what it costs."""

    formats: tuple[Format, ...]
    side: int
    classes: int
    cost: Cost

    def facts(self) -> dict[str, Any]:
        """{input, output, formats, parameters, multiply_adds, machine} of a manifest."""
        return {
            "input": {"name": INPUT, "type": "uint8", "shape": ["N", self.side, self.side, 3], "channels": "RGB"},
            "output": {"name": OUTPUT, "type": "float32", "shape": ["N", self.classes]},
            "formats": [each.to_json() for each in self.formats],
            "parameters": self.cost.parameters,
            "multiply_adds": self.cost.multiply_adds,
            "machine": machine_kind("cpu", cores()),
        }


def export_student(corpus: Corpus, report: Manifest, student: Manifest, *, stop: Callable[[], bool]) -> Exported:
    """Every format of a student.

    Args:
        report: the evaluation that predicted the test images with it.
        stop: asked between measurements.

    Raises:
        PermanentError: it cannot be exported, or a float32 format does not answer as PyTorch does.
        UsageError: the report predicted no test image with it.
        CorruptError: an image, the student or the report's table is not what the store promises.
        CancelledError: the run was asked to stop.
    """
    title = f"{student.facts['model']} seed {student.facts['seed']}"
    trained, classes = load_trained_network(corpus, student), len(corpus.classes)
    network = Network(trained.input_size, trained.mean, trained.std, classes, module=trained.module)
    images = compared_images(corpus, report, trained.view_size, trained.input_size)
    exact = _exact(network, images.images)

    def parity_of(name: str, data: bytes) -> Parity:
        return _parity(name, data, exact, images, trained, report)

    try:
        made = {PT2: export_pt2(trained.module, network.size), ONNX: export_onnx(network)}
    except ValueError as error:
        raise PermanentError(f"{title}: {error}") from error
    parities = {name: parity_of(name, data) for name, data in made.items()}
    for name, found in parities.items():
        if found.beyond:
            raise PermanentError(f"{title} as {name}: {found.beyond}; report this with the model's name")
    failure = ""
    try:
        made[INT8] = to_int8(made[ONNX], calibration_images(corpus, trained.view_size, trained.input_size))
        parities[INT8] = parity_of(INT8, made[INT8])
    except ValueError as error:
        failure = str(error)
    taken = timings(made, trained.input_size, trained.mean, trained.std, stop=stop)
    formats = [Format(name, made[name], parities[name], tuple(taken[name]), True, "") for name in (PT2, ONNX)]
    if INT8 in made:
        offer = int8_offer(
            parities[INT8].beyond,
            taken[ONNX],
            taken[INT8],
            plain_bytes=len(made[ONNX]),
            own_bytes=len(made[INT8]),
        )
        formats.append(Format(INT8, made[INT8], parities[INT8], tuple(taken[INT8]), offer.offered, offer.why))
    else:
        formats.append(Format(INT8, None, None, (), False, failure))
    return Exported(tuple(formats), network.size, classes, cost_of(trained.module, network.size))


def _exact(network: Network, images: np.ndarray) -> np.ndarray:
    """Logits float32 [N, C] of PyTorch in float32."""
    module = Normalised(network).eval()
    with torch.inference_mode():
        blocks = [module(torch.from_numpy(images[at : at + _BLOCK])) for at in range(0, len(images), _BLOCK)]
    return np.concatenate([block.numpy() for block in blocks])


def _parity(
    name: str, data: bytes, exact: np.ndarray, images: ComparedImages, trained: TrainedNetwork, report: Manifest
) -> Parity:
    runtimes = [TORCH] if name == PT2 else onnx_runtimes() if name == INT8 else [ONNXRUNTIME]
    found = [
        compare(
            exact,
            answers(data, runtime, images.images, trained.mean, trained.std),
            images,
            report.facts,
            runtime=runtime,
            quantised=name == INT8,
        )
        for runtime in runtimes
    ]
    return max(found, key=lambda parity: (bool(parity.beyond), parity.largest))
