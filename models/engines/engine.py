"""What every engine is: a network behind one call, from uint8 images to logits.

An engine's name is `<family>-<precision>`, such as `openvino-bfloat16`. The input is uint8 [B, S, S, 3]; its
normalisation (`models.augmentation.rendering.to_input`) is part of what the engine runs, so that no pass over
floats is made outside it and a GPU is sent a quarter of the bytes.
"""

from __future__ import annotations

import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from models.engines.network import Answer, Network

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
FLOAT16 = "float16"

EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}
"""The extra of our package that brings what a family needs."""


class EngineError(Exception):
    """An engine cannot run a network on this machine, or gave what no network may give; the text says why."""


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, which exporters, tracers and compilers give of their own dependencies and of branches on shapes.

    That what they make is right is measured (`models.engines.choosing`), not believed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_short(error: BaseException) -> str:
    """An error of another library in one line of at most 400 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"[:400]


class Engine(ABC):
    """A network that is ready to be asked.

    Attributes:
        name: family and precision.
        network: what it runs.
        block: the only batch size that it computes; other numbers of images are cut and filled up. None: any.
    """

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.network = network
        self.block: int | None = None
        # Jobs that share a worker share its engines, and OpenVINO's requests and our hooks serve one at a time.
        self._asking = threading.Lock()

    def __call__(self, images_BSS3: np.ndarray) -> Answer:
        """Ask the network.

        Args:
            images_BSS3: RGB uint8, S the network's size, B at least 1.

        Returns:
            Logits float32 [B, C], and features float32 where the network was asked for them.

        Raises:
            ValueError: the images have another type or shape.
            EngineError: the network answers in another shape than promised.
        """
        side = self.network.size
        if images_BSS3.dtype != np.uint8 or images_BSS3.ndim != 4 or images_BSS3.shape[1:] != (side, side, 3):
            raise ValueError(
                f"{self.name} needs uint8 [B, {side}, {side}, 3], got {images_BSS3.dtype} {list(images_BSS3.shape)}"
            )
        images_BSS3 = np.ascontiguousarray(images_BSS3)
        with self._asking:
            answer = self._ask(images_BSS3) if self.block is None else self._in_blocks(images_BSS3, self.block)
        wanted = (len(images_BSS3), self.network.num_classes)
        if answer.logits_BC.shape != wanted:
            raise EngineError(
                f"{self.name}: the network answers {list(answer.logits_BC.shape)} where {list(wanted)} was promised; "
                "check its number of classes and that its output is logits"
            )
        return answer

    @abstractmethod
    def _ask(self, images_BSS3: np.ndarray) -> Answer:
        """The answer to contiguous images of the right shape."""

    def _in_blocks(self, images_BSS3: np.ndarray, block: int) -> Answer:
        count = len(images_BSS3)
        filled = np.concatenate([images_BSS3, np.repeat(images_BSS3[-1:], -count % block, axis=0)])
        return joined([self._ask(filled[start : start + block]) for start in range(0, len(filled), block)], count)

    @abstractmethod
    def close(self) -> None:
        """Let go of what the engine holds; it is not asked again."""


def joined(answers: Sequence[Answer], count: int) -> Answer:
    """The first `count` images' answer, of answers to one batch after the other."""
    features = [answer.features_BD for answer in answers if answer.features_BD is not None]
    return Answer(
        np.concatenate([answer.logits_BC for answer in answers])[:count],
        np.concatenate(features)[:count] if features else None,
    )
