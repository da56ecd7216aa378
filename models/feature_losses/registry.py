"""The losses on features by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.feature_losses.attention import Attention, ChannelAttention
from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.contrast import Contrastive
from models.feature_losses.fusion import Fusion
from models.feature_losses.hints import Hint, Reuse, Variational
from models.feature_losses.relations import Probabilistic, Relational, Similarity
from models.feature_losses.stages import OneForAll, Review

FEATURE_LOSSES: Mapping[str, type[FeatureLoss]] = MappingProxyType(
    {
        "fitnets": Hint,
        "vid": Variational,
        "attention": Attention,
        "attention_channels": ChannelAttention,
        "similarity": Similarity,
        "pkt": Probabilistic,
        "rkd": Relational,
        "crd": Contrastive,
        "review": Review,
        "simkd": Reuse,
        "ofa": OneForAll,
        "fusion": Fusion,
    }
)
"""Classes by the names in `models.losses.terms.LOSSES`, where sources and defaults are."""


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
    if name not in FEATURE_LOSSES:
        raise ValueError(f"there is no loss on features {name!r}; there are {', '.join(FEATURE_LOSSES)}")
    kind = FEATURE_LOSSES[name]
    return kind(own, theirs, classes=classes, samples=samples, temperature=temperature, **options)
