"""A module as engines run it: the input's normalisation in front, the features it is asked for behind."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from models.engines.engine import EngineError, quiet
from models.engines.network import Network
from models.networks.taps import Taps, shapes


class Normalised(nn.Module):
    """uint8 [B, S, S, 3] -> logits, or (logits, features) where the network was asked for features.

    Features are read by hooks (`models.networks.taps`), so that the logits are those of the network's own `forward`.
    The caller's module is left as it is but for the strides of its weights: hooks and the marks of exporters go to a
    copy of it, which shares the weights on a CPU.

    Raises:
        EngineError: the network has no such tap, or it is no feature of an image; the text says why.
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
        # One multiplication and one addition, rounded as `models.augmentation.rendering.to_input` rounds them.
        self.register_buffer("scale", (1 / (255 * std)).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (mean / std).float().view(1, 3, 1, 1))
        self._taps: Taps | None = None
        if network.features is not None:
            try:
                shapes(self.module, [network.features], network.size)
                self._taps = Taps(self.module, [network.features])
            except ValueError as error:
                raise EngineError(f"features: {error}") from error
        self.to(device)

    def forward(self, images_BSS3: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [B, C] of uint8 images [B, S, S, 3], with the features where there are any."""
        # The permuted view of NHWC bytes is channels_last already.
        x_B3SS = images_BSS3.permute(0, 3, 1, 2).float() * self.scale - self.shift
        logits_BC: Tensor = self.module(x_B3SS)
        if self._taps is None:
            return logits_BC
        (features,) = self._taps.take().values()
        return logits_BC, features
