"""The soft-label file: one per (shard, teacher, recipe, view), rows in shard order (DESIGN: Soft labels).

safetensors with `logits` float16 [N, C] and `valid` bool [N]; `partner` int32 [N] where views are mixed, and
`features` float16 [N, D] or [N, D, H, W] where the teacher was asked for them. Raw logits, never thresholded or
sharpened: what is made of them is policy, and policy costs no teacher time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from infra.errors import CorruptError
from models.augmentation.draws import ALONE

LIMIT = float(np.finfo(np.float16).max)
"""Largest magnitude of a logit that float16 holds: 65,504."""


@dataclass(frozen=True)
class SoftLabels:
    """What one teacher says of one view of one shard."""

    logits: np.ndarray  # [N, C] float32; zeros where not valid
    valid: np.ndarray  # [N] bool
    partner: np.ndarray | None = None  # [N] int32: row whose view is mixed into this one's; ALONE: nobody's
    features: np.ndarray | None = None  # [N, D] or [N, D, H, W] float16; zeros where not valid

    @property
    def invalid(self) -> int:
        """Rows that teach nothing."""
        return int((~self.valid).sum())


def keep(
    logits: np.ndarray,
    *,
    asked: np.ndarray | None = None,
    partner: np.ndarray | None = None,
    features: np.ndarray | None = None,
) -> SoftLabels:
    """Answers as they will be stored: rows with NaN, infinity or values past float16 are not valid.

    Args:
        logits: float32 [N, C].
        asked: bool [N], rows that the teacher spoke of; the others are not valid. Default: all.
        partner: int32 [N].
        features: float32 [N, D] or [N, D, H, W].
    """
    if logits.ndim != 2:
        raise ValueError(f"soft labels are [N, C], got {list(logits.shape)}")
    valid = _finite(logits)
    if asked is not None:
        valid &= asked
    if features is not None:
        valid &= _finite(features)
        features = _cleared(features, valid)
    return SoftLabels(_cleared(logits, valid).astype(np.float32), valid, partner, features)


def write_soft_labels(soft: SoftLabels) -> bytes:
    """The file's bytes; equal labels give equal bytes."""
    tensors = {"logits": soft.logits.astype(np.float16), "valid": soft.valid}
    if soft.partner is not None:
        tensors["partner"] = soft.partner.astype(np.int32)
    if soft.features is not None:
        tensors["features"] = soft.features.astype(np.float16)
    data: bytes = save(tensors)
    return data


def read_soft_labels(data: bytes, name: str = "soft labels") -> SoftLabels:
    """Parse what `write_soft_labels` made.

    Raises:
        CorruptError: no such file, or other tensors, types or shapes; the text starts with `name`.
    """
    try:
        tensors = load(data)
        logits, valid = tensors["logits"], tensors["valid"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptError(f"{name}: not a soft-label file ({error}); run repair") from error
    rows = logits.shape[:1]
    if logits.dtype != np.float16 or logits.ndim != 2 or valid.dtype != bool or valid.shape != rows:
        shapes = f"logits {logits.dtype} {list(logits.shape)}, valid {valid.dtype} {list(valid.shape)}"
        raise CorruptError(f"{name}: {shapes} are not float16 [N, C] and bool [N]; run repair")
    partner, features = tensors.get("partner"), tensors.get("features")
    if partner is not None and not _partners(partner, rows[0]):
        raise CorruptError(
            f"{name}: partner {partner.dtype} {list(partner.shape)} is not int32 [N] of rows; run repair"
        )
    if features is not None and (features.dtype != np.float16 or features.shape[:1] != rows):
        raise CorruptError(
            f"{name}: features {features.dtype} {list(features.shape)} are not float16 [N, ...]; run repair"
        )
    return SoftLabels(logits.astype(np.float32), valid, partner, features)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(values) <= LIMIT).all(axis=tuple(range(1, values.ndim))))


def _cleared(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    shown = valid.reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(shown, values, 0).astype(np.float16)


def _partners(partner: np.ndarray, rows: int) -> bool:
    return (
        partner.dtype == np.int32 and partner.shape == (rows,) and bool(((partner >= ALONE) & (partner < rows)).all())
    )
