"""A student with its teacher's classifier: built, rebuilt, taught and exported as any other network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.feature_losses.registry import feature_loss
from models.networks.build import build
from models.networks.graft import Grafted, adopt
from models.networks.micro import Micro, micro_xs
from models.networks.taps import Taps, resolve, shapes
from models.networks.weight_files import export_pt2, load_pt2
from tests.models.feature_losses.given import targets

WIDTH, SIDE = 24, 64


def x(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(batch))


def grafted(model: str = "micro_xs", weights: Path | None = None, **graft: Any) -> Grafted:
    options = {"graft": {"width": WIDTH, **graft}}
    module = build(model, num_classes=3, options=options, weights=weights, seed=1, size=SIDE).module
    assert isinstance(module, Grafted)
    return module


def teacher(width: int = WIDTH, classes: int = 3) -> Micro:
    torch.manual_seed(8)
    return Micro(classes, width=(8, 8, 16, width), depth=(1,)).eval()


def test_logits_are_the_teacher_s_classifier_on_the_projected_map() -> None:
    network, other = grafted(), teacher()
    adopt(network, other)
    projected = network.forward_features(x())
    assert projected.shape == (2, WIDTH, SIDE // 16, SIDE // 16)
    pooled = network.forward_head(projected, pre_logits=True)
    torch.testing.assert_close(pooled, projected.mean(dim=(2, 3)))
    torch.testing.assert_close(network(x()), other.classifier(pooled))
    assert (network.num_features, network.num_classes) == (WIDTH, 3)


def test_projector_is_narrower_by_the_factor() -> None:
    for factor, inner in ((2, 12), (4, 6)):
        kinds = [m for m in grafted(factor=factor).projector if isinstance(m, nn.Conv2d)]
        sizes = [(conv.in_channels, conv.out_channels, conv.kernel_size[0]) for conv in kinds]
        assert sizes == [(64, inner, 1), (inner, inner, 3), (inner, WIDTH, 1)]


@pytest.mark.parametrize("model", ["micro_xs", "resnet18", "mobilenetv3_small_050"])
def test_everything_learns_but_the_teacher_s_classifier(model: str) -> None:
    network = grafted(model).train()
    network(x()).square().sum().backward()
    asleep = {name for name, one in network.named_parameters() if one.grad is None}
    assert asleep == {"classifier.weight", "classifier.bias"}
    assert {name for name, one in network.named_parameters() if not one.requires_grad} == asleep


def test_taps_give_the_projected_features() -> None:
    network = grafted()
    assert shapes(network, ["features", "pooled"], SIDE) == {"features": (WIDTH, 4, 4), "pooled": (WIDTH,)}
    with Taps(network, ["features"]) as taps:
        network(x())
        torch.testing.assert_close(taps.take()["features"], network.forward_features(x()))


def test_stages_are_the_student_s() -> None:
    found = shapes(network := grafted("resnet18"), resolve(network, ["stages"]), SIDE)
    assert list(found.values()) == [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


def test_state_and_options_rebuild_it() -> None:
    network = grafted()
    adopt(network, teacher())
    again = build("micro_xs", num_classes=3, options={"graft": {"width": WIDTH}}, seed=2).module
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x()), network(x()))


def test_export_answers_as_the_network() -> None:
    network = grafted()
    adopt(network, teacher())
    exported = load_pt2(export_pt2(network, SIDE))
    for batch in (1, 3):
        torch.testing.assert_close(exported(x(batch)), network(x(batch)))


def test_weights_of_the_bare_network_start_its_backbone(tmp_path: Path) -> None:
    torch.manual_seed(9)
    bare = micro_xs(7).eval()
    save_file(bare.state_dict(), tmp_path / "bare.safetensors")
    network = grafted(weights=tmp_path / "bare.safetensors")
    assert torch.equal(network.student.forward_features(x()), bare.forward_features(x()))


def test_weights_of_a_graft_are_taken_whole(tmp_path: Path) -> None:
    network = grafted()
    adopt(network, teacher())
    with torch.no_grad():
        network.projector[0].weight.mul_(2)
    save_file(network.state_dict(), tmp_path / "graft.safetensors")
    again = grafted(weights=tmp_path / "graft.safetensors")
    assert torch.equal(again(x()), network(x()))


def test_weights_of_a_graft_are_found_behind_a_wrapper(tmp_path: Path) -> None:
    network = grafted()
    wrapped = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "graft.ckpt")
    again = grafted(weights=tmp_path / "graft.ckpt")
    assert torch.equal(again(x()), network(x()))


def test_weights_of_the_plain_network_start_a_graft(tmp_path: Path) -> None:
    plain = build("micro_xs", num_classes=3, seed=2).module
    wrapped = {f"student.{name}": tensor for name, tensor in plain.state_dict().items()}
    save_file(wrapped, tmp_path / "plain.safetensors")
    started = grafted(weights=tmp_path / "plain.safetensors")
    torch.testing.assert_close(started.student.forward_features(x()), plain.forward_features(x()))


def test_matching_features_alone_teaches_it() -> None:
    network, other = grafted().train(), teacher()
    adopt(network, other)
    loss = feature_loss("simkd", [(WIDTH, 4, 4)], [(WIDTH, 8, 8)], classes=3, samples=0, temperature=1.0, factor=2)
    with torch.no_grad():
        theirs = other.forward_features(x(8))
    optimiser = torch.optim.Adam([one for one in network.parameters() if one.requires_grad], lr=3e-3)
    values = []
    for _ in range(30):
        optimiser.zero_grad()
        value = loss([network.forward_features(x(8))], [theirs], targets(8)).mean()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0] / 3
    assert torch.equal(network.classifier.weight, other.classifier.weight)


class _Unbiased(Micro):
    def __init__(self) -> None:
        super().__init__(3, width=(8, 8, 16, WIDTH), depth=(1,))
        self.classifier = nn.Linear(WIDTH, 3, bias=False)


def test_classifier_without_bias_is_adopted() -> None:
    network, other = grafted(), _Unbiased()
    adopt(network, other)
    assert other.training
    assert torch.equal(network.classifier.weight, other.classifier.weight)
    assert not bool(network.classifier.bias.any())


def test_other_classes_or_width_are_refused() -> None:
    with pytest.raises(ValueError, match="of 24 features and 3 classes; Micro's has 24 and 5"):
        adopt(grafted(), teacher(classes=5))
    with pytest.raises(ValueError, match="of 24 features and 3 classes; Micro's has 32 and 3"):
        adopt(grafted(), teacher(width=32))


@pytest.mark.parametrize(
    ("model", "width"), [("convnext_atto", 320), ("mobilenetv3_small_050", 1024), ("vit_tiny_patch16_224", 192)]
)
def test_heads_that_do_more_than_average_are_refused(model: str, width: int) -> None:
    other = build(model, num_classes=3, size=SIDE).module
    with pytest.raises(ValueError, match="mean over positions and one linear layer"):
        adopt(grafted(width=width), other)


def test_lite_and_resnet_teachers_are_taken() -> None:
    for model, width in (("tf_efficientnet_lite0", 1280), ("resnet18", 512)):
        network, other = grafted(width=width), build(model, num_classes=3, seed=3).module
        adopt(network, other)
        assert torch.equal(network.classifier.weight, other.get_classifier().weight)  # type: ignore[operator]


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_students_without_maps_are_refused(model: str) -> None:
    with pytest.raises(ValueError, match="needs a convolutional student"):
        build(model, num_classes=3, options={"graft": {"width": WIDTH}})


@pytest.mark.parametrize("wrong", [{}, {"factor": 2}, {"width": 8, "wings": 2}, {"width": "8"}, {"width": 8.0}])
def test_wrong_options_say_what_a_graft_takes(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="graft takes two whole numbers, width and"):
        build("micro_xs", num_classes=3, options={"graft": wrong})


@pytest.mark.parametrize("wrong", [{"width": 8, "factor": 0}, {"width": 1, "factor": 2}])
def test_a_projector_without_channels_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="leave the projector without channels"):
        build("micro_xs", num_classes=3, options={"graft": wrong})
