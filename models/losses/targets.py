"""Training targets of a batch: labels, teachers' logits and features, weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Training targets of a batch; B samples, C classes, K teachers."""

    label_B: Tensor  # int64, -1 unlabelled (single, ordinal)
    labels_BC: Tensor | None  # float32, -1 unknown (multilabel)
    teacher_KBC: Tensor | None  # float32 raw logits
    valid_B: Tensor  # bool: the teachers' outputs are usable
    weight_B: Tensor  # float32, from the select stage
    partner_label_B: Tensor | None = None  # as label_B, of the mixing partner; None: no sample is mixed
    partner_labels_BC: Tensor | None = None
    share_B: Tensor | None = None  # float32, share of the sample's own image; 1: not mixed
    index_B: Tensor | None = None  # int64, the sample's index among all training samples, for memory banks
    maps: tuple[Mapping[str, Tensor], ...] = ()  # of each teacher by tap: float32 [B, D] or [B, D, H, W]

    @property
    def labelled_B(self) -> Tensor:
        """bool [B]: at least one known label; of both images where two are mixed."""
        own = _labelled(self.label_B, self.labels_BC)
        if self.share_B is None or self.partner_label_B is None:
            return own
        return own & ((self.share_B == 1) | _labelled(self.partner_label_B, self.partner_labels_BC))

    @property
    def known_share_B(self) -> Tensor:
        """float32 [B]: share of the image whose label is known; above 0 and below 1 where one of two mixed ones is."""
        own = _labelled(self.label_B, self.labels_BC).to(self.weight_B.dtype)
        if self.share_B is None or self.partner_label_B is None:
            return own
        partner = _labelled(self.partner_label_B, self.partner_labels_BC).to(own.dtype)
        return self.share_B * own + (1 - self.share_B) * partner

    def each(self, change: Callable[[Tensor, int], Tensor]) -> Targets:
        """Targets with `change(tensor, dimension of the samples)` applied to every tensor."""
        changed: dict[str, object] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Tensor):
                value = change(value, 1 if one.name == "teacher_KBC" else 0)
            elif one.name == "maps":
                value = tuple({tap: change(map_B, 0) for tap, map_B in maps.items()} for maps in value)
            changed[one.name] = value
        return Targets(**changed)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Targets:
        """On another device."""
        return self.each(lambda tensor, _: tensor.to(device, non_blocking=True))

    def rows(self, index_N: Tensor) -> Targets:
        """Some of the samples, by int64 index."""
        return self.each(lambda tensor, dimension: tensor.index_select(dimension, index_N))


def _labelled(label_B: Tensor, labels_BC: Tensor | None) -> Tensor:
    return label_B >= 0 if labels_BC is None else (labels_BC >= 0).any(1)
