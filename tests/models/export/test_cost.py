"""Parameters and multiply-adds against formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.export.cost import cost_of
from models.networks.build import build


class Net(nn.Module):
    """8 x 8: a strided convolution, a depthwise one, a linear layer on each position and one on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.apart = nn.Conv2d(4, 4, 5, padding=2, groups=4)
        self.each = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        maps = self.apart(self.first(x_BCHW)).flatten(2).transpose(1, 2)
        logits: Tensor = self.last(self.each(maps).mean(1))
        return logits


def test_multiply_adds_are_positions_times_kernels() -> None:
    positions = 4 * 4
    expected = positions * 4 * 9 * 3 + positions * 4 * 25 + positions * 6 * 4 + 2 * 6
    assert cost_of(Net(), 8).multiply_adds == expected


def test_parameters_are_all_scalars() -> None:
    assert cost_of(Net(), 8).parameters == 3 * 4 * 9 + 4 * 25 + 4 + 4 * 6 + 6 + 6 * 2 + 2


def test_the_network_stays_as_it_was() -> None:
    module = Net().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    cost_of(module, 8)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())


@pytest.mark.parametrize(("model", "millions"), [("mobilenetv2_100", 300), ("micro", 32)])
def test_figures_of_known_networks(model: str, millions: int) -> None:
    found = cost_of(build(model, num_classes=1000 if model != "micro" else 8).module, 224)
    assert round(found.multiply_adds / 1e6, -1 if millions > 100 else 0) == millions
