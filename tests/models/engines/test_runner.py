"""Any number of images in batches, which shrink where memory ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.engines.engine import Engine, Network
from models.engines.opening import open_engine
from models.engines.runner import Runner
from tests.models.engines.nets import CLASSES, MEAN, SIZE, STD, expected, images, micro_network


def _means_up_to(room: int, error: Exception, calls: list[int]) -> Engine:
    """An engine for whose memory more than `room` images are too many."""

    def call(pixels: np.ndarray) -> np.ndarray:
        calls.append(len(pixels))
        if len(pixels) > room:
            raise error
        return pixels.mean(axis=(1, 2))

    return open_engine(Network(SIZE, MEAN, STD, 3, call=call), "call-float32", device="cpu", threads=1)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_batches_are_joined_in_order(opened: Callable[[str], Engine], count: int) -> None:
    pixels = images(count)
    answer = Runner(opened("eager-float32"), 4)(pixels)
    np.testing.assert_allclose(answer.logits_BC, expected(micro_network(), pixels), atol=1e-5)
    assert answer.features_BD is None


def test_features_are_joined_too() -> None:
    engine = open_engine(micro_network("pooled"), "eager-float32", device="cpu", threads=1)
    features = Runner(engine, 4)(images(9)).features_BD
    assert features is not None
    np.testing.assert_allclose(features, engine(images(9)).features_BD, atol=1e-5)


def test_no_images_have_no_logits(opened: Callable[[str], Engine]) -> None:
    assert Runner(opened("eager-float32"), 4)(images(0)).logits_BC.shape == (0, CLASSES)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 1024"),
        RuntimeError("Exception from cpu plugin: std::bad_alloc"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_for_good(error: Exception) -> None:
    calls: list[int] = []
    runner = Runner(_means_up_to(2, error, calls), 8)
    pixels = images(11)
    np.testing.assert_allclose(runner(pixels).logits_BC, pixels.mean(axis=(1, 2)), rtol=1e-6)
    assert runner.batch == 2
    assert calls == [8, 4, 2, 2, 2, 2, 2, 1]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    runner = Runner(_means_up_to(0, RuntimeError("CUDA out of memory"), []), 4)
    with pytest.raises(MemoryError, match="one image of 48 px does not fit: CUDA out of memory"):
        runner(images(3))


def test_other_failures_are_raised_as_they_are() -> None:
    calls: list[int] = []
    runner = Runner(_means_up_to(2, RuntimeError("shape mismatch"), calls), 8)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        runner(images(8))
    assert calls == [8]


def test_a_batch_without_images_is_refused(opened: Callable[[str], Engine]) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        Runner(opened("eager-float32"), 0)
