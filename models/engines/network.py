"""What an engine runs and what it answers (see `models/engines/`).

Shapes: B images, S side of the input, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn


class Answer(NamedTuple):
    """What a network says of a batch."""

    logits_BC: np.ndarray  # float32
    features_BD: np.ndarray | None = None  # float32 [B, D] or [B, D, H, W], where the network was asked for them


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
        if sum(way is not None for way in (self.module, self.onnx, self.call)) != 1:
            raise ValueError("a network is exactly one of a module, an ONNX file and a function")
