"""The soft-label file: one per (shard, teacher, recipe, view), rows in shard order (DESIGN: Soft labels).

safetensors with `logits` float16 [N, C] and `valid` bool [N]. Raw logits, never thresholded or sharpened: what is
made of them is policy, and policy costs no teacher time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from infra.errors import CorruptError

LIMIT = float(np.finfo(np.float16).max)
"""Largest magnitude of a logit that float16 holds: 65,504."""


@dataclass(frozen=True)
class SoftLabels:
    """What one teacher says of one view of one shard."""

    logits: np.ndarray  # [N, C] float32; zeros where not valid
    valid: np.ndarray  # [N] bool

    @property
    def invalid(self) -> int:
        """Rows that teach nothing."""
        return int((~self.valid).sum())


def keep(logits: np.ndarray) -> SoftLabels:
    """Logits float32 [N, C] as they will be stored: rows with NaN, infinity or values past float16 are not valid."""
    if logits.ndim != 2:
        raise ValueError(f"soft labels are [N, C], got {list(logits.shape)}")
    valid = (np.abs(logits) <= LIMIT).all(axis=1)
    clean = np.where(valid[:, None], logits, 0).astype(np.float16)
    return SoftLabels(clean.astype(np.float32), valid)


def write_soft_labels(soft: SoftLabels) -> bytes:
    """The file's bytes; equal labels give equal bytes."""
    data: bytes = save({"logits": soft.logits.astype(np.float16), "valid": soft.valid})
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
    if logits.dtype != np.float16 or logits.ndim != 2 or valid.dtype != bool or valid.shape != logits.shape[:1]:
        shapes = f"logits {logits.dtype} {list(logits.shape)}, valid {valid.dtype} {list(valid.shape)}"
        raise CorruptError(f"{name}: {shapes} are not float16 [N, C] and bool [N]; run repair")
    return SoftLabels(logits.astype(np.float32), valid)
