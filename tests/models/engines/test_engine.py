"""Every engine gives the network's own logits, from uint8 images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.engines.engine import Engine, EngineError, Network
from models.engines.opening import names, open_engine
from models.networks.build import build
from models.networks.weight_files import export_pt2, load_pt2
from tests.models.engines.nets import CLASSES, MEAN, SIZE, STD, expected, floats, images, micro_network

Opened = Callable[[str], Engine]
LOWER = [name for name in names(micro_network(), "cpu") if name.endswith("bfloat16") and not name.startswith("compile")]


def test_eager_float32_gives_the_logits_of_the_module(opened: Opened) -> None:
    pixels = images(5)
    logits = opened("eager-float32")(pixels).logits_BC
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected(micro_network(), pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["openvino-float32", "onnxruntime-float32", "compile-float32"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_other_engines_give_them_for_any_batch(opened: Opened, name: str, count: int) -> None:
    pixels = images(count, seed=count)
    logits = opened(name)(pixels).logits_BC
    np.testing.assert_allclose(logits, expected(micro_network(), pixels), atol=1e-5)


@pytest.mark.parametrize("name", LOWER)
def test_low_precision_stays_near_and_returns_float32(opened: Opened, name: str) -> None:
    pixels = images(16)
    want = expected(micro_network(), pixels)
    logits = opened(name)(pixels).logits_BC
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - want).max() < 0.1 * want.std()


def test_the_module_of_the_caller_keeps_its_weights_and_gets_no_hooks() -> None:
    network = micro_network(features="pooled")
    assert network.module is not None
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    for name in ("eager-float32", "eager-bfloat16"):
        open_engine(network, name, device="cpu", threads=1)(images(2))
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.module.modules())


@pytest.mark.parametrize("model", ["micro_xs", "tf_efficientnet_lite0", "resnet10t", "convnext_atto"])
def test_pooled_features_are_what_the_head_is_given(model: str) -> None:
    built = build(model, num_classes=CLASSES, seed=1)
    network = Network(SIZE, MEAN, STD, CLASSES, module=built.module, features="pooled")
    answer = open_engine(network, "eager-float32", device="cpu", threads=2)(images(2))
    module = built.module
    with torch.inference_mode():
        maps = module.forward_features(torch.from_numpy(floats(images(2))))
        want = module.forward_head(maps, pre_logits=True).numpy()
    assert answer.features_BD is not None
    np.testing.assert_allclose(answer.features_BD, want, atol=1e-4 * want.std())


def test_features_of_a_module_are_its_output() -> None:
    answer = open_engine(micro_network("blocks.0"), "eager-float32", device="cpu", threads=1)(images(2))
    module = micro_network().module
    assert module is not None
    with torch.inference_mode():
        want = module.blocks[0](module.stem(torch.from_numpy(floats(images(2))))).numpy()
    assert answer.features_BD is not None
    np.testing.assert_allclose(answer.features_BD, want, atol=1e-5)


def test_compiled_engines_give_features_too() -> None:
    network = micro_network("pooled")
    eager = open_engine(network, "eager-float32", device="cpu", threads=2)(images(3))
    compiled = open_engine(network, "compile-float32", device="cpu", threads=2)(images(3))
    assert compiled.features_BD is not None
    np.testing.assert_allclose(compiled.features_BD, eager.features_BD, atol=1e-5)
    np.testing.assert_allclose(compiled.logits_BC, eager.logits_BC, atol=1e-5)


def test_features_are_left_to_torch() -> None:
    assert {name.split("-")[0] for name in names(micro_network("pooled"), "cpu")} == {"eager", "compile"}
    with pytest.raises(EngineError, match="torch engines only"):
        open_engine(micro_network("pooled"), "openvino-float32", device="cpu", threads=1)


def test_an_exported_archive_runs_on_engines() -> None:
    network = micro_network()
    assert network.module is not None
    archive = replace(network, module=load_pt2(export_pt2(network.module, SIZE)))
    for name in ("eager-float32", "openvino-float32"):
        answer = open_engine(archive, name, device="cpu", threads=2)(images(3))
        np.testing.assert_allclose(answer.logits_BC, expected(network, images(3)), atol=1e-5)


def test_features_of_an_unknown_module_are_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineError, match=r"no module 'neck'; it begins with stem, blocks, classifier"):
        open_engine(micro_network("neck"), "eager-float32", device="cpu", threads=1)


def test_a_module_that_is_no_feature_of_an_image_is_refused_when_an_engine_opens() -> None:
    network = micro_network("unused")
    assert network.module is not None
    network.module.unused = nn.Identity()
    with pytest.raises(EngineError, match="features: unused: this part of the network did not run"):
        open_engine(network, "eager-float32", device="cpu", threads=1)


def test_pooled_features_need_a_network_that_knows_its_head() -> None:
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    network = Network(SIZE, MEAN, STD, CLASSES, module=plain, features="pooled")
    with pytest.raises(EngineError, match="which layer is its classifier"):
        open_engine(network, "eager-float32", device="cpu", threads=1)


def test_images_of_another_size_are_refused(opened: Opened) -> None:
    with pytest.raises(ValueError, match=r"needs uint8 \[B, 48, 48, 3\], got uint8 \[2, 40, 48, 3\]"):
        opened("eager-float32")(images(2)[:, :40])


def test_another_number_of_classes_is_an_error() -> None:
    network = replace(micro_network(), num_classes=9)
    with pytest.raises(EngineError, match=r"returned \[2, 5\], expected \[2, 9\]"):
        open_engine(network, "eager-float32", device="cpu", threads=1)(images(2))


def test_images_that_must_not_be_written_are_read(opened: Opened) -> None:
    pixels = images(2)
    pixels.flags.writeable = False
    assert opened("eager-float32")(pixels).logits_BC.shape == (2, CLASSES)


def test_jobs_that_share_an_engine_get_their_own_predictions(opened: Opened) -> None:
    engine = opened("openvino-float32")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: engine(images(8, seed)).logits_BC, range(24)))
    for seed, logits in enumerate(found):
        np.testing.assert_allclose(logits, expected(micro_network(), images(8, seed)), atol=1e-5)


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineError, match="no engine 'tensorrt-int8'; engines here are eager-float32"):
        open_engine(micro_network(), "tensorrt-int8", device="cpu", threads=1)


def test_a_network_that_cannot_be_compiled_says_why() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("no such weight")

    network = Network(SIZE, MEAN, STD, CLASSES, module=Odd())
    with pytest.raises(EngineError, match=r"openvino-float32 cannot run this network: .*no such weight"):
        open_engine(network, "openvino-float32", device="cpu", threads=1)
