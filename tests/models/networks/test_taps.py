"""Taps mean the same in every kind of network and leave the network as it was."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.networks.build import build
from models.networks.micro import micro_xs
from models.networks.taps import Taps, resolve, shapes

CLASSES = 3


def network(model: str, **options: object) -> nn.Module:
    return build(model, num_classes=CLASSES, options=options, seed=1).module


def pictures(side: int = 64, count: int = 2) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def seen(module: nn.Module, name: str, x: Tensor) -> Tensor:
    with Taps(module, [name]) as taps, torch.no_grad():
        module(x)
        return taps.take()[name]


def spied(layer: nn.Module, run: Callable[[], object]) -> Tensor:
    """What `layer` answers during `run`, copied at once."""
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, given, answer: kept.append(answer.detach().clone()))
    with torch.no_grad():
        run()
    hook.remove()
    return kept[-1]


@pytest.mark.parametrize("model", ["micro_xs", "resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_pooled_is_what_the_classifier_is_given_and_features_what_is_pooled(model: str) -> None:
    module, x = network(model), pictures()
    with torch.no_grad():
        features = module.forward_features(x)
        pooled = module.forward_head(features, pre_logits=True)
    assert torch.equal(seen(module, "features", x), features)
    assert torch.equal(seen(module, "pooled", x), pooled)


@pytest.mark.parametrize(("model", "prefix"), [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_tokens_are_laid_out_as_the_patches_they_come_from(model: str, prefix: int) -> None:
    module, x = network(model, img_size=(64, 32), depth=2), torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        tokens_BND = module.forward_features(x)
        pooled_BD = module.forward_head(tokens_BND, pre_logits=True)
    features = seen(module, "features", x)
    assert features.shape == (2, 192, 4, 2)
    assert torch.equal(features[:, :, 3, 1], tokens_BND[:, prefix + 3 * 2 + 1])
    assert torch.equal(features[:, :, 0, 1], tokens_BND[:, prefix + 1])
    assert torch.allclose(seen(module, "pooled", x), pooled_BD, atol=1e-6)


def test_maps_with_channels_last_are_turned_around() -> None:
    module, x = network("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 1, 1)), pictures()
    with torch.no_grad():
        last_BHWD = module.forward_features(x)
    assert torch.equal(seen(module, "features", x), last_BHWD.permute(0, 3, 1, 2))
    convolved = spied(module.patch_embed.proj, lambda: module(x))
    assert torch.equal(seen(module, "patch_embed.proj", x), convolved)


class Tokens(nn.Module):
    """Seven tokens, of which the first is no patch."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x.flatten(2)[:, :, :7].transpose(1, 2))
        return answer.mean(1)


def test_tokens_that_form_no_grid_are_averaged_without_their_prefix() -> None:
    x = pictures(4)
    assert torch.allclose(seen(Tokens(), "inner", x), x.flatten(2)[:, :, 1:7].mean(2))


def test_the_convolution_that_the_attention_transfer_code_taps_is_found() -> None:
    module, x, path = network("densenet121"), pictures(32), "features.denseblock4.denselayer16.conv2"
    found = seen(module, path, x)
    assert found.shape == (2, 32, 1, 1)
    assert torch.equal(found, spied(module.get_submodule(path), lambda: module(x)))


def test_what_the_next_layer_writes_over_is_kept_as_it_was() -> None:
    module, x = network("resnet18"), pictures(32)
    module.layer1[0].act1.inplace = True
    found = seen(module, "layer1.0.bn1", x)
    assert torch.equal(found, spied(module.layer1[0].bn1, lambda: module(x)))
    assert bool((found < 0).any())


def test_gradients_of_taps_reach_the_weights_before_them() -> None:
    module = network("micro_xs").train()
    with Taps(module, ["stem", "features", "pooled"]) as taps:
        module(pictures())
        found = taps.take()
    (stem,) = torch.autograd.grad(found["stem"].sum(), [module.stem[0][0].weight], retain_graph=True)
    both = torch.autograd.grad(found["features"].sum() + found["pooled"].sum(), list(module.blocks.parameters()))
    assert bool(stem.abs().sum() > 0)
    assert all(gradient is not None for gradient in both)


def test_answers_and_gradients_of_the_network_are_what_they_were() -> None:
    module, x = network("micro_xs").train(), pictures()
    weights = list(module.parameters())
    plain = module(x)
    want = torch.autograd.grad(plain.square().sum(), weights)
    with Taps(module, ["stem", "blocks.0", "features", "pooled"]):
        tapped = module(x)
        got = torch.autograd.grad(tapped.square().sum(), weights)
    assert torch.equal(plain, tapped)
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


def test_features_are_taken_once_and_are_those_of_the_last_pass() -> None:
    module = network("micro_xs")
    with Taps(module, ["pooled"]) as taps, torch.no_grad():
        module(pictures(32))
        module(pictures(64))
        last = taps.take()["pooled"]
        with pytest.raises(ValueError, match="pooled: this part of the network did not run"):
            taps.take()
    assert torch.equal(last, seen(module, "pooled", pictures(64)))


def test_a_closed_network_is_as_it_was_before() -> None:
    module = network("micro_xs")
    before = set(vars(module))
    taps = Taps(module, ["features", "pooled", "stem"])
    taps.close()
    assert set(vars(module)) == before
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())


def test_a_copy_of_a_tapped_network_runs_its_own_layers() -> None:
    module, x = network("micro_xs"), pictures(32)
    with Taps(module, ["features", "stem", "pooled"]):
        module(x)  # leaves features in a graph behind, which cannot be copied
        other = copy.deepcopy(module)
        with torch.no_grad():
            other.stem[0][0].weight.zero_()
            assert not torch.equal(other(x), module(x))


def test_shapes_leave_mode_buffers_and_random_state_alone() -> None:
    module = network("micro_xs").train()
    module.stem.eval()
    modes = [one.training for one in module.modules()]
    state = copy.deepcopy(module.state_dict())
    before = torch.random.get_rng_state()
    shapes(nn.Sequential(module, nn.Dropout()), ["0.stem", "1"], 32)
    assert shapes(module, ["stem"], 32) == {"stem": (16, 8, 8)}
    assert [one.training for one in module.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), before)


class Odd(nn.Module):
    """Modules whose answers are no feature of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.rows, self.unused = nn.LSTM(3, 2, batch_first=True), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        answer, _ = self.pair(x.flatten(2).transpose(1, 2))
        rows: Tensor = self.rows(answer.flatten(0, 1))
        return rows


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pair", "pair: the module returns a tuple, not one tensor"),
        ("rows", r"rows: \[32, 2\] of two images is not a row an image"),
        ("unused", "unused: this part of the network did not run"),
    ],
)
def test_what_is_no_feature_of_an_image_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        shapes(Odd(), [name], 4)


def test_an_unknown_module_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(ValueError, match=r"no module 'blocks\.9'; it begins with stem, .*did you mean blocks\.\d"):
        resolve(micro_xs(3), ["pooled", "blocks.9"])


@pytest.mark.parametrize(
    ("name", "text"), [("pooled", "which layer is its classifier"), ("features", "has no `forward_features`")]
)
def test_a_network_of_another_kind_is_told_to_name_a_module(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        resolve(nn.Sequential(nn.Conv2d(3, 3, 1)), [name])


def test_a_compiled_network_has_the_same_features() -> None:
    module, x = network("micro_xs"), pictures(32)
    names = ["stem", "blocks.1", "features", "pooled"]
    want = {name: seen(module, name, x) for name in names}
    with Taps(module, names) as taps, torch.no_grad():
        # Traced whole; no compiler is needed to see that.
        torch.compile(module, backend="eager", fullgraph=True)(x)
        found = taps.take()
    assert all(torch.equal(found[name], want[name]) for name in names)


def parallel_features(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Features of a data-parallel pass, after a backward pass through all of them."""
    with Taps(module, ["stem", "features", "pooled"]) as taps:
        answer = DistributedDataParallel(module)(x)
        found = taps.take()
        (answer.sum() + sum(one.sum() for one in found.values())).backward()
    return found


def test_features_come_out_of_data_parallelism_too(tmp_path: Path) -> None:
    module, x = network("micro_xs").train(), pictures(32)
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=datetime.timedelta(seconds=30))
    try:
        # A wrapper that outlives the group joins gloo's threads with the interpreter's lock held, which they may want.
        found = parallel_features(module, x)
    finally:
        dist.destroy_process_group()
    assert found["features"].requires_grad
    assert all(weight.grad is not None for weight in module.parameters())


def test_places_may_share_a_name_with_those_of_another_network() -> None:
    network = micro_xs(3)
    with Taps(network, {"last": "features", "first": "stem.0"}) as taps:
        network(torch.zeros(2, 3, 32, 32))
        found = taps.take()
    assert {name: tuple(tensor.shape[1:]) for name, tensor in found.items()} == {
        "last": (64, 2, 2),
        "first": (8, 16, 16),
    }
