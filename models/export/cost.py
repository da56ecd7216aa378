"""What a network costs, counted: parameters, and multiply-adds of one image."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """Scalar parameters of a network, and multiply-adds of its convolutions and linear layers for one image."""

    parameters: int
    multiply_adds: int


def cost_of(module: nn.Module, size: int) -> Cost:
    """Count by running one image.

    Normalisation, activations, pooling and the products inside attention are not counted: in convolutional networks
    they are a few percent, and papers leave them out too.

    Args:
        module: takes float32 [B, 3, size, size]; unchanged.
    """
    module = copy.deepcopy(module).eval().cpu()
    counted = 0

    def convolution(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        counted += made[0].numel() * math.prod(layer.kernel_size) * (layer.in_channels // layer.groups)

    def linear(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Linear)
        counted += made[0].numel() * layer.in_features

    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            layer.register_forward_hook(convolution)
        elif isinstance(layer, nn.Linear):
            layer.register_forward_hook(linear)
    with torch.no_grad():
        module(torch.zeros(1, 3, size, size))
    return Cost(sum(parameter.numel() for parameter in module.parameters()), counted)
