"""Stages are found in networks of every kind, and their features have the reported shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.networks.build import build
from models.networks.taps import resolve, shapes

STAGES = {
    "micro": (64, {"stem": (24, 16, 16), "blocks.2": (40, 8, 8), "blocks.4": (56, 4, 4)}),
    "resnet18": (64, {"act1": (64, 32, 32), "layer1": (64, 16, 16), "layer2": (128, 8, 8), "layer3": (256, 4, 4),
                      "layer4": (512, 2, 2)}),
    "tf_efficientnet_lite0": (64, {"blocks.0": (16, 32, 32), "blocks.1": (24, 16, 16), "blocks.2": (40, 8, 8),
                                   "blocks.4": (112, 4, 4), "blocks.6": (320, 2, 2)}),
    "densenet121": (64, {"features.norm0": (64, 32, 32), "features.denseblock1": (256, 16, 16),
                         "features.denseblock2": (512, 8, 8), "features.denseblock3": (1024, 4, 4),
                         "features.norm5": (1024, 2, 2)}),
    "mobilenetv3_small_100": (64, {"bn1": (16, 32, 32), "blocks.0": (16, 16, 16), "blocks.1": (24, 8, 8),
                                   "blocks.3": (48, 4, 4), "blocks.5": (576, 2, 2)}),
    "convnext_atto": (64, {"stages.0": (40, 16, 16), "stages.1": (80, 8, 8), "stages.2": (160, 4, 4),
                           "stages.3": (320, 2, 2)}),
    "swin_tiny_patch4_window7_224": (224, {"layers.0": (96, 56, 56), "layers.1": (192, 28, 28),
                                           "layers.2": (384, 14, 14), "layers.3": (768, 7, 7)}),
    "mobilevit_xxs": (64, {"stages.0": (16, 32, 32), "stages.1": (24, 16, 16), "stages.2": (48, 8, 8),
                           "stages.3": (64, 4, 4), "final_conv": (320, 2, 2)}),
    "vit_tiny_patch16_224": (224, {f"blocks.{i}": (192, 14, 14) for i in (2, 5, 8, 11)}),
    "deit_tiny_distilled_patch16_224": (224, {f"blocks.{i}": (192, 14, 14) for i in (2, 5, 8, 11)}),
    "xcit_nano_12_p8_224": (224, {f"blocks.{i}": (128, 28, 28) for i in (2, 5, 8, 11)}),
}  # fmt: skip
ENDS = {
    "micro": ((120,), (120, 4, 4)),
    "resnet18": ((512,), (512, 2, 2)),
    "tf_efficientnet_lite0": ((1280,), (1280, 2, 2)),
    "densenet121": ((1024,), (1024, 2, 2)),
    "mobilenetv3_small_100": ((1024,), (576, 2, 2)),
    "convnext_atto": ((320,), (320, 2, 2)),
    "swin_tiny_patch4_window7_224": ((768,), (768, 7, 7)),
    "mobilevit_xxs": ((320,), (320, 2, 2)),
    "vit_tiny_patch16_224": ((192,), (192, 14, 14)),
    "deit_tiny_distilled_patch16_224": ((192,), (192, 14, 14)),
    "xcit_nano_12_p8_224": ((128,), (128, 28, 28)),
}


@pytest.mark.parametrize("model", STAGES)
def test_networks_of_every_kind_have_stages_features_and_pooled_ones(model: str) -> None:
    # Shapes need no numbers.
    with torch.device("meta"):
        module = build(model, num_classes=3).module
    size, stages = STAGES[model]
    pooled, features = ENDS[model]
    names = resolve(module, ["stages", "pooled", "features"])
    assert shapes(module, names, size) == {**stages, "pooled": pooled, "features": features}
    assert names == (*stages, "pooled", "features")


def test_stages_of_a_network_that_names_none_are_its_blocks_evenly_spaced() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(6))))
    assert resolve(plain, ["stages"]) == ("0", "1")
    holder = nn.Module()
    holder.stem, holder.trunk = nn.Conv2d(3, 4, 1), plain[1]
    assert resolve(holder, ["stages"]) == ("trunk.0", "trunk.2", "trunk.3", "trunk.5")


def test_a_network_without_blocks_is_told_to_name_modules() -> None:
    with pytest.raises(ValueError, match="Linear does not say what its stages are; name modules"):
        resolve(nn.Linear(3, 3), ["stages"])
