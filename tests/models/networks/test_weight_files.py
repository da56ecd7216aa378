"""An exported network returns what the network returns, for any batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from models.networks.build import build
from models.networks.weight_files import export_pt2, load_pt2


def test_an_export_answers_as_the_network_for_every_batch_size() -> None:
    network = build("micro_xs", num_classes=3, seed=1).module
    again = load_pt2(export_pt2(network, 48))
    for batch in (1, 2, 7):
        x = torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(batch))
        assert torch.allclose(again(x), network(x), atol=1e-5)


class _OnlyTwo(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)[:, :3]


def test_a_network_of_one_batch_size_is_refused() -> None:
    with pytest.raises(ValueError, match="_OnlyTwo cannot be exported for any batch size"):
        export_pt2(_OnlyTwo(), 8)


def test_threads_may_export_at_once() -> None:
    modules = [build("micro_xs", num_classes=3, seed=seed).module for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        archives = list(pool.map(lambda module: export_pt2(module, 32), modules))
    x = torch.rand(2, 3, 32, 32)
    for module, archive in zip(modules, archives, strict=True):
        torch.testing.assert_close(load_pt2(archive)(x), module(x))
