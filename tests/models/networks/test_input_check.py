"""Networks that cannot be fed, do not answer with logits, or cannot learn from one image at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.networks.build import build
from models.networks.input_check import check_input


def check(model: str, side: int, *, part: int | None = None, **options: Any) -> None:
    built = build(model, num_classes=3, options=options, size=side)
    check_input(built.module, side=side, classes=3, options=options, native=built.input_size, part=part)


@pytest.mark.parametrize(("option", "value"), [("in_chans", 1), ("features_only", True)])
@pytest.mark.parametrize("model", ["micro", "resnet10t"])
def test_options_that_no_network_here_may_have_are_named(model: str, option: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{model}: options\.{option} .*; leave {option} out"):
        build(model, num_classes=3, options={option: value})


def test_an_input_size_that_is_refused_is_named_with_one_that_fits() -> None:
    with pytest.raises(ValueError, match=r"size: it does not take images of 24 px; set .*, such as 96"):
        check("micro", 24)


def test_an_answer_that_is_no_logits_names_the_options() -> None:
    with pytest.raises(ValueError, match=r"its options \{'global_pool': ''\}"):
        check("resnet10t", 64, global_pool="")


def test_a_network_that_cannot_be_built_at_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"levit_128s|does not take images"):
        check("levit_128s", 30)


def test_a_cut_network_of_too_small_images_is_refused() -> None:
    with pytest.raises(ValueError, match="cut: the network does not take images of 16 px"):
        build("micro", num_classes=3, options={"cut": {"after": "stem"}}, size=16)


def test_batch_norm_of_one_value_needs_a_larger_batch() -> None:
    with pytest.raises(ValueError, match=r"train\.batch: it cannot learn from one image at a time"):
        check("resnet10t", 32, part=1)
    check("resnet10t", 32, part=2)
    check("resnet10t", 64, part=1)


def test_a_network_is_left_as_it_was() -> None:
    module = build("micro", num_classes=3).module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    check_input(module, side=64, classes=3, options={}, native=96, part=1)
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
