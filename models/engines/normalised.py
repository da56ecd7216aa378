"""A module as engines run it: the input's normalisation in front, the features it is asked for behind."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from models.engines.engine import EngineError, quiet
from models.engines.network import POOLED, Network


class Normalised(nn.Module):
    """uint8 [B, S, S, 3] -> logits, or (logits, features) where the network was asked for features.

    Pooled features are what the classifier layer is given (timm's `forward_head(..., pre_logits=True)`), any other
    features what the module of that path answers. Both are read by hooks, so that the logits are those of the
    network's own `forward`. The caller's module is left as it is but for the strides of its weights: hooks and the
    marks of exporters go to a copy of it, which shares the weights on a CPU.

    Raises:
        EngineError: the network has no such module, or does not say which layer is its classifier.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, device: str = "cpu") -> None:
        super().__init__()
        if network.module is None:
            raise EngineError("only a torch module can be run, traced or exported by torch")
        weights = [*network.module.parameters(), *network.module.buffers()] if device == "cpu" else []
        with quiet():
            self.module = copy.deepcopy(network.module, {id(weight): weight for weight in weights})
        mean = torch.tensor(network.mean, dtype=torch.float64)
        std = torch.tensor(network.std, dtype=torch.float64)
        # One multiplication and one addition, rounded as `models.views.to_input` rounds them.
        self.register_buffer("scale", (1 / (255 * std)).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (mean / std).float().view(1, 3, 1, 1))
        self._seen: list[Tensor] = []
        self._watches = network.features is not None
        if network.features is not None:
            self._watch(network.features)
        self.to(device)

    def forward(self, images_BSS3: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [B, C] of uint8 images [B, S, S, 3], with the features where there are any."""
        # The permuted view of NHWC bytes is channels_last already.
        x_B3SS = images_BSS3.permute(0, 3, 1, 2).float() * self.scale - self.shift
        logits_BC: Tensor = self.module(x_B3SS)
        return (logits_BC, self._seen.pop()) if self._watches else logits_BC

    def _watch(self, features: str) -> None:
        if features == POOLED:
            _classifier(self.module).register_forward_pre_hook(self._keep_input)
            return
        try:
            layer = self.module.get_submodule(features)
        except AttributeError as error:
            known = ", ".join(name for name, _ in self.module.named_children())
            raise EngineError(f"features: the network has no module {features!r}; it begins with {known}") from error
        layer.register_forward_hook(self._keep_output)

    def _keep_input(self, layer: nn.Module, given: tuple[Any, ...]) -> None:
        self._seen[:] = [given[0].flatten(1)]

    def _keep_output(self, layer: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        if not isinstance(answer, Tensor):
            raise EngineError(f"features: the module answers a {type(answer).__name__}, not one tensor; name another")
        # A module that runs twice in a pass is kept as it was last.
        self._seen[:] = [answer]


def _classifier(module: nn.Module) -> nn.Module:
    ask = getattr(module, "get_classifier", None)
    layer = ask() if callable(ask) else None
    if isinstance(layer, nn.Module):
        return layer
    raise EngineError(
        f"features: {type(module).__name__} does not say which layer is its classifier (`get_classifier`); "
        "name a module instead of 'pooled'"
    )
