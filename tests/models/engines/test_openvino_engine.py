"""OpenVINO in a process that goes on after it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from models.engines.engine import EngineError, Network
from models.engines.opening import open_engine


class Odd(nn.Module):
    """Cannot be traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such weight")


def test_warnings_are_heard_after_a_failed_conversion() -> None:
    logger, root = logging.getLogger("infra.storage"), logging.getLogger()
    handlers, filters = list(root.handlers), list(root.filters)
    network = Network(16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 2, module=Odd())
    with pytest.raises(EngineError, match="no such weight"):
        open_engine(network, "openvino-float32", device="cpu", threads=1)
    assert logger.isEnabledFor(logging.WARNING)
    assert (root.handlers, root.filters) == (handlers, filters)
