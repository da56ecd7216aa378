"""A trained network as a file that needs no code of ours: torch.export's `.pt2` archive.

The archive holds a graph and weights, no pickled classes, so a hardened consumer loads it too.
"""

from __future__ import annotations

import io

import torch
from torch import nn


def export_pt2(module: nn.Module, input_size: int) -> bytes:
    """Export for any batch size.

    Args:
        module: takes float32 [B, 3, input_size, input_size], answers logits [B, C]; put into eval mode.
        input_size: side of the input in pixels.

    Returns:
        The `.pt2` archive; `torch.export.load` reads it.

    Raises:
        ValueError: the network cannot be exported with a free batch size.
    """
    module = module.eval().cpu()
    # Two rows: torch.export takes a batch of one for a constant.
    example = torch.zeros(2, 3, input_size, input_size)
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        raise ValueError(f"{type(module).__name__} cannot be exported for any batch size: {error}") from error
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def load_pt2(data: bytes) -> nn.Module:
    """The network of an archive; float32 [B, 3, n, n] to logits [B, C]."""
    return torch.export.load(io.BytesIO(data)).module()
