"""A student with its teacher's classifier (SimKD, Chen et al. 2022, 2203.14001).

A projector maps the features of the student's backbone to the teacher's, and the teacher's frozen classifier reads
those. Inference needs projector and classifier, so they are part of the network and not of the loss
(`models.feature_losses.hints.Reuse`): building the network by name and options builds them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.pooled import PooledClassifier

_DEFAULT_FACTOR = 2
_TOLERANCE = 1e-4


class Grafted(PooledClassifier):
    """A backbone, the paper's projector, global average pooling and a frozen linear classifier.

    The projector is 1x1, 3x3, 1x1 convolution, each with batch norm and ReLU, `width // factor` channels inside. It
    works at the student's own resolution [our reading: the paper first pools a larger student's map to the teacher's
    size, which inference would have to know]. It ends with a ReLU, as in the paper, so it cannot produce negative
    features.

    The interface is timm's: `forward_features`, `forward_head`, `forward`, `num_features`, `num_classes`,
    `get_classifier`, `feature_info`. Modules that the backbone's `forward_features` does not run, such as its own
    classifier, are dropped.

    Args:
        student: a network whose `forward_features` returns a map [B, D, H, W]; it is modified.
        width: channels of the teacher's last map.
        factor: by which the projector's inner layers are narrower.
        classes: C.
        side: of the images in pixels, for one pass that finds the modules that the backbone runs.

    Raises:
        ValueError: width and factor leave the projector without channels, or the backbone does not return a map.
    """

    def __init__(self, student: nn.Module, width: int, factor: int, classes: int, side: int) -> None:
        super().__init__()
        if factor < 1 or width < factor:
            raise ValueError(f"graft: width {width} and factor {factor} leave the projector without channels")
        channels = _prune(student, side)
        inner = width // factor
        self.student = student
        self.projector = nn.Sequential(
            *_convolution(channels, inner, 1), *_convolution(inner, inner, 3), *_convolution(inner, width, 1)
        )
        self.classifier = nn.Linear(width, classes).requires_grad_(False)
        self.num_features = width
        self.num_classes = classes
        stages = getattr(student, "feature_info", None) or []
        self.feature_info = [{**one, "module": f"student.{one['module']}"} for one in stages]

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> projected maps of the teacher's width, [B, width, h, w]."""
        projected: Tensor = self.projector(self.student.forward_features(x_BCHW))  # type: ignore[operator]
        return projected


def graft(student: nn.Module, options: Mapping[str, Any], classes: int, side: int) -> Grafted:
    """The grafted network for `options: {graft: {width: ..., factor: 2}}` of a model.

    Raises:
        ValueError: unknown options, or see `Grafted`.
    """
    if set(options) - {"factor"} != {"width"} or not all(type(value) is int for value in options.values()):
        raise ValueError(f"graft takes two whole numbers, width and (optional) factor, not {dict(options)}")
    return Grafted(student, options["width"], options.get("factor", _DEFAULT_FACTOR), classes, side)


def inner_names(names: Iterable[str]) -> set[str]:
    """Names that a network's tensors have within a `Grafted` one."""
    return {f"student.{name}" for name in names}


def is_grafted(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a `Grafted` network."""
    return any(name.startswith("projector.") for name in state) and any(name.startswith("student.") for name in state)


def adopt(grafted: Grafted, teacher: nn.Module) -> None:
    """Copy the teacher's classifier into the grafted network.

    Args:
        grafted: built with the teacher's width.
        teacher: a network with timm's `get_classifier` and `forward_head`; not changed.

    Raises:
        ValueError: the teacher's classifier is not one linear layer on its mean-pooled last map, or its width
            or classes differ from the graft's.
    """
    ask = getattr(teacher, "get_classifier", None)
    layer = ask() if callable(ask) else None
    name = type(teacher).__name__
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"simkd takes over a classifier that is one linear layer, and {name}'s is not")
    own = grafted.classifier
    if (layer.in_features, layer.out_features) != (own.in_features, own.out_features):
        raise ValueError(
            f"the graft takes over a classifier of {own.in_features} features and {own.out_features} classes; {name}'s "
            f"has {layer.in_features} and {layer.out_features}"
        )
    if not _pools_plainly(teacher, layer):
        raise ValueError(
            f"simkd needs a teacher whose head is a mean over positions and one linear layer; {name}'s does more"
        )
    with torch.no_grad():
        own.weight.copy_(layer.weight)
        if layer.bias is None:
            own.bias.zero_()
        else:
            own.bias.copy_(layer.bias)


def _pools_plainly(teacher: nn.Module, layer: nn.Linear) -> bool:
    """Whether the teacher's head computes the same from a map as the graft's."""
    head = getattr(teacher, "forward_head", None)
    if not callable(head):
        return False
    # Values of both signs that differ over positions reveal an activation, a norm or another pooling.
    values = torch.linspace(-1, 1, 2 * layer.in_features * 9, device=layer.weight.device, dtype=layer.weight.dtype)
    map_BDHW = values.square().sub(0.5).view(2, layer.in_features, 3, 3)
    was_training = teacher.training
    teacher.eval()
    try:
        with torch.no_grad():
            output = head(map_BDHW)
            expected = layer(map_BDHW.mean(dim=(2, 3)))
    except (RuntimeError, IndexError):
        # A head for tokens cannot read a map.
        return False
    finally:
        teacher.train(was_training)
    return output.shape == expected.shape and torch.allclose(output, expected, rtol=_TOLERANCE, atol=_TOLERANCE)


def _convolution(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    ]


def _prune(student: nn.Module, side: int) -> int:
    """Drop the modules that `forward_features` does not run; returns the number of channels of its map."""
    ran: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda module, _: ran.add(module)) for module in student.modules()]
    was_training = student.training
    student.eval()
    try:
        with torch.no_grad():
            features = student.forward_features(torch.zeros(1, 3, side, side))  # type: ignore[operator]
    finally:
        student.train(was_training)
        for hook in hooks:
            hook.remove()
    if not isinstance(features, Tensor) or features.ndim != 4 or getattr(student, "output_fmt", "NCHW") == "NHWC":
        raise ValueError(f"a graft needs a convolutional student: {type(student).__name__} returns no map [B, D, H, W]")
    for name, child in list(student.named_children()):
        if any(True for _ in child.parameters()) and not ran.intersection(child.modules()):
            setattr(student, name, nn.Identity())
    return features.shape[1]
