"""Students that are the first layers of a larger network, with a head of their own.

What pretraining gives on medical images sits in the lowest layers (Raghu et al. 2019, 1902.07208), and a network cut
after them, fine-tuned, keeps the accuracy of the whole at a fraction of its size (Peng et al. 2021, 2106.05152). The
cut and the head are options here; the papers search the cut by the similarity of layers [our reading: we do not].
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.pooled import PooledClassifier

OPTION = "cut"
"""Name of the option of a model that asks for a cut: `{after: path of a module, width: channels or None}`."""


class CutNetwork(PooledClassifier):
    """The modules of a network up to one of them, then a 1x1 convolution (optional), mean pooling and a linear layer.

    Like timm's networks it has `feature_info`. The backbone's modules keep their names, so weights of the
    whole network fit by name.

    Args:
        network: a convolutional network that runs its children one after another; its modules are taken over.
        after: path of the last module that is kept, such as `blocks.2`, `layer2` or `features.denseblock2`.
        width: channels of the 1x1 convolution, which batch norm and ReLU follow; None: the map is pooled as it is.
        classes: C.
        side: of the images in pixels, for one pass that checks the cut.

    Raises:
        ValueError: no such module, or the network does not run its modules one after another up to it.
    """

    def __init__(self, network: nn.Module, after: str, width: int | None, classes: int, side: int) -> None:
        super().__init__()
        expected = _output_at(network, after, side)
        self.kept = _take_over(self, network, after)
        stages = getattr(network, "feature_info", None) or []
        paths = {path for path, _ in self.named_modules()}
        self.feature_info = [dict(one) for one in stages if one["module"] in paths]
        if not _same(self.eval(), expected, side):
            raise ValueError(
                f"cut: {type(network).__name__} does not run its modules one after another up to {after!r}; cut it "
                "at another module"
            )
        channels = expected.shape[1]
        self.num_features = channels if width is None else width
        self.num_classes = classes
        self.head = (
            nn.Identity()
            if width is None
            else nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        )
        self.classifier = nn.Linear(self.num_features, classes)
        for layer in self.head.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.zeros_(self.classifier.bias)

    def _backbone(self, x_BCHW: Tensor) -> Tensor:
        for name in self.kept:
            x_BCHW = self.get_submodule(name)(x_BCHW)
        return x_BCHW

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> maps [B, num_features, h, w]."""
        features: Tensor = self.head(self._backbone(x_BCHW))
        return features


def cut(network: nn.Module, options: Mapping[str, Any], classes: int, side: int) -> CutNetwork:
    """The network of `options: {cut: {after: ..., width: ...}}` of a model.

    Raises:
        ValueError: unknown options, or see `CutNetwork`.
    """
    after, width = options.get("after"), options.get("width")
    if set(options) - {"width"} != {"after"} or not isinstance(after, str) or not after:
        raise ValueError(f"cut takes `after`, the path of a module, and (optional) `width`, not {dict(options)}")
    if width is not None and (type(width) is not int or width < 1):
        raise ValueError(f"cut: width {width!r} is no number of channels")
    return CutNetwork(network.eval(), after, width, classes, side)


def _probe(side: int) -> Tensor:
    """Two images of fixed noise: on a constant image layers could hardly be told apart."""
    values = torch.arange(2 * 3 * side * side, dtype=torch.float64)
    return torch.frac(torch.sin(values) * 43758.5453).abs().float().view(2, 3, side, side)


def _same(network: CutNetwork, expected: Tensor, side: int) -> bool:
    try:
        with torch.no_grad():
            own = network._backbone(_probe(side))
    except RuntimeError:
        # Modules beside the trunk get an input of another shape.
        return False
    return own.shape == expected.shape and torch.equal(own, expected)


def _output_at(network: nn.Module, after: str, side: int) -> Tensor:
    """What the module at `after` returns in the network's own pass."""
    try:
        module = network.get_submodule(after)
    except AttributeError as error:
        near = difflib.get_close_matches(after, [path for path, _ in network.named_modules() if path], n=3)
        known = ", ".join(path for path, _ in network.named_children())
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"cut: the network has no module {after!r}; it begins with {known}{hint}") from error
    seen: list[Any] = []
    # A copy: the next layer may overwrite its input in place.
    hook = module.register_forward_hook(
        lambda _, __, output: seen.append(output.clone() if isinstance(output, Tensor) else output)
    )
    try:
        with torch.no_grad():
            network(_probe(side))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"cut: the network does not take images of {side} px; set size or views.size ({str(error).splitlines()[0]})"
        ) from error
    finally:
        hook.remove()
    if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim != 4:
        raise ValueError(
            f"cut: {after!r} returns no map [B, D, H, W] of a convolutional network; cut at another module"
        )
    found: Tensor = seen[0]
    return found


def _take_over(owner: nn.Module, network: nn.Module, after: str) -> list[str]:
    """Move the modules up to `after` to `owner`, under their own names; returns the names of its children in order."""
    first, _, rest = after.partition(".")
    names = []
    for name, child in list(network.named_children()):
        if name == first and rest:
            trunk = nn.Sequential()
            _take_over(trunk, child, rest)
            owner.add_module(name, trunk)
        else:
            owner.add_module(name, child)
        names.append(name)
        if name == first:
            break
    return names
