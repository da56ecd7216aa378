"""Networks as engines: one call from uint8 images to logits, however the network is run.

An engine's name is `<family>-<precision>`, such as `openvino-bfloat16`. The input is uint8 [B, S, S, 3]; its
normalisation (`models.augmentation.rendering.to_input`) is part of what the engine runs, so that no pass over
floats is made outside it and a GPU receives a quarter of the bytes.

Shapes: B images, S side of the input, C classes, D features.
"""

from __future__ import annotations

import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
FLOAT16 = "float16"

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "stillroom[openvino]"}
"""What pip installs for a family."""


class EngineError(Exception):
    """An engine cannot run a network on this machine, or returned an invalid result; the text says why."""


class Prediction(NamedTuple):
    """What a network predicts for a batch."""

    logits_BC: np.ndarray  # float32
    features_BD: np.ndarray | None = None  # float32 [B, D] or [B, D, H, W], where they were requested


@dataclass(frozen=True)
class Network:
    """A network and what its input must be; exactly one of `module`, `onnx` and `call` is given."""

    size: int  # side S of the input in pixels
    mean: tuple[float, ...]  # per channel, for values scaled to 0..1
    std: tuple[float, ...]
    num_classes: int
    module: nn.Module | None = None  # float32, eval mode, on the CPU: [B, 3, S, S] -> [B, C]
    onnx: Path | None = None  # a file with one float32 input [B, 3, S, S] and the logits as its first output
    call: Callable[[np.ndarray], np.ndarray] | None = None  # RGB uint8 [B, S, S, 3] -> float [B, C]
    features: str | None = None  # a tap (see `models.networks.taps`), or an output of the ONNX file

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.module, self.onnx, self.call)) != 1:
            raise ValueError("a network is exactly one of a module, an ONNX file and a function")


class Engine(ABC):
    """A network that is ready for inference.

    Attributes:
        name: family and precision.
        network: what it runs.
        block: the only batch size that it computes; other numbers of images are split and padded to it. None: any.
    """

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.network = network
        self.block: int | None = None
        # Jobs on one worker share its engines; OpenVINO's requests and our hooks handle one call at a time.
        self._lock = threading.Lock()

    def __call__(self, images_BSS3: np.ndarray) -> Prediction:
        """Run inference on a batch.

        Args:
            images_BSS3: RGB uint8, S the network's size, B at least 1.

        Returns:
            Logits float32 [B, C], and features float32 where they were requested.

        Raises:
            ValueError: the images have another type or shape.
            EngineError: the logits do not have the shape [B, num_classes].
        """
        side = self.network.size
        if images_BSS3.dtype != np.uint8 or images_BSS3.ndim != 4 or images_BSS3.shape[1:] != (side, side, 3):
            raise ValueError(
                f"{self.name} needs uint8 [B, {side}, {side}, 3], got {images_BSS3.dtype} {list(images_BSS3.shape)}"
            )
        images_BSS3 = np.ascontiguousarray(images_BSS3)
        with self._lock:
            prediction = self._infer(images_BSS3) if self.block is None else self._in_blocks(images_BSS3, self.block)
        wanted = (len(images_BSS3), self.network.num_classes)
        if prediction.logits_BC.shape != wanted:
            raise EngineError(
                f"{self.name}: the network returned {list(prediction.logits_BC.shape)}, expected {list(wanted)}; "
                "check its number of classes and that its output is logits"
            )
        return prediction

    @abstractmethod
    def _infer(self, images_BSS3: np.ndarray) -> Prediction:
        """The prediction for contiguous images of the right shape."""

    def _in_blocks(self, images_BSS3: np.ndarray, block: int) -> Prediction:
        count = len(images_BSS3)
        filled = np.concatenate([images_BSS3, np.repeat(images_BSS3[-1:], -count % block, axis=0)])
        return joined([self._infer(filled[start : start + block]) for start in range(0, len(filled), block)], count)

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; it is not called again."""


class CallEngine(Engine):
    """A plain function as an engine; `threads` and `device` do not apply to it."""

    def __init__(self, network: Network) -> None:
        super().__init__(f"call-{FLOAT32}", network)
        if network.features is not None:
            raise EngineError("features: a function gives logits only")

    def _infer(self, images_BSS3: np.ndarray) -> Prediction:
        assert self.network.call is not None
        return Prediction(np.asarray(self.network.call(images_BSS3), dtype=np.float32))

    def close(self) -> None:
        """Nothing to free."""


def joined(parts: Sequence[Prediction], count: int) -> Prediction:
    """The predictions for consecutive batches as one, cut to the first `count` images."""
    features = [part.features_BD for part in parts if part.features_BD is not None]
    return Prediction(
        np.concatenate([part.logits_BC for part in parts])[:count],
        np.concatenate(features)[:count] if features else None,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of exporters, tracers and compilers about their own dependencies and branches on shapes.

    Their results are compared with float32 (`models.engines.benchmark`) in any case.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_short(error: BaseException) -> str:
    """An error of another library in one line of at most 400 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"[:400]
