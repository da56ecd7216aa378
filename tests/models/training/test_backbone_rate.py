"""Pretrained layers may learn at a rate of their own."""

from __future__ import annotations

import torch

from models.networks.build import build, head_layers
from models.training.config import TrainConfig
from models.training.optimization import RELATIVE_RATE, make_optimizer


def rates(model: str, options: dict[str, object] | None = None, **values: float) -> dict[str, float]:
    """The relative rate of every parameter, by name."""
    module = build(model, num_classes=3, options=options).module
    optimizer = make_optimizer(module, torch.nn.Identity(), TrainConfig(steps=1, lr=0.01, **values))  # type: ignore[arg-type]
    found = {p: group[RELATIVE_RATE] for group in optimizer.param_groups for p in group["params"]}
    return {name: found[p] for name, p in module.named_parameters()}


def test_without_a_rate_of_its_own_the_backbone_learns_as_the_head_does() -> None:
    assert set(rates("micro_xs").values()) == {1.0}


def test_backbone_learns_at_its_own_rate_and_the_classifier_does_not() -> None:
    found = rates("resnet18", backbone_lr=0.002)
    assert found["conv1.weight"] == 0.2
    assert found["fc.weight"] == found["fc.bias"] == 1.0


def test_head_of_a_cut_network_learns_as_its_classifier_does() -> None:
    found = rates("resnet18", {"cut": {"after": "layer1", "width": 8}}, backbone_lr=0.002)
    assert found["layer1.0.conv1.weight"] == 0.2
    assert found["head.0.weight"] == found["classifier.weight"] == 1.0


def test_head_layers_are_those_that_pretrained_weights_do_not_fill() -> None:
    assert head_layers(build("resnet18", num_classes=3).module) == ("fc",)
