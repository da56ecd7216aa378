"""Losses on features of student and teacher: modules that learn with the student and are dropped afterwards."""

from __future__ import annotations

from importlib import import_module

from models.feature_losses.base import FeatureLoss, Shape

_WHERE = {
    "fitnets": "hints",
    "vid": "hints",
    "attention": "attention",
    "attention_channels": "attention",
    "similarity": "relations",
    "pkt": "relations",
    "rkd": "relations",
    "crd": "contrast",
    "review": "review",
    "simkd": "reuse",
    "ofa": "stages",
    "fusion": "fusion",
}
_CLASS = {
    "fitnets": "Hint",
    "vid": "Variational",
    "attention": "Attention",
    "attention_channels": "ChannelAttention",
    "similarity": "Similarity",
    "pkt": "Probabilistic",
    "rkd": "Relational",
    "crd": "Contrastive",
    "review": "Review",
    "simkd": "Reuse",
    "ofa": "OneForAll",
    "fusion": "Fusion",
}


def feature_loss(
    name: str,
    own: list[Shape],
    theirs: list[Shape],
    *,
    classes: int,
    samples: int,
    temperature: float,
    **options: object,
) -> FeatureLoss:
    """The loss `name` for features of these shapes.

    Args:
        own, theirs: shapes of the student's and the teacher's taps, (D,) or (D, H, W).
        classes: C.
        samples: images that may train.
        temperature: of losses that have one.
        options: of the loss, see `models.losses.terms.LOSSES`.

    Raises:
        ValueError: no such loss, or shapes that it cannot compare.
    """
    if name not in _WHERE:
        raise ValueError(f"there is no loss on features {name!r}; there are {', '.join(_WHERE)}")
    kind: type[FeatureLoss] = getattr(import_module(f"models.feature_losses.{_WHERE[name]}"), _CLASS[name])
    return kind(own, theirs, classes=classes, samples=samples, temperature=temperature, **options)


__all__ = ["FeatureLoss", "Shape", "feature_loss"]
