"""The soft-label file."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from infra.errors import CorruptError
from tasks.data.soft_labels import keep, read_soft_labels, write_soft_labels


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70000.0])
def test_row_that_float16_cannot_hold_is_not_valid(bad: float) -> None:
    logits = np.ones((3, 4), np.float32)
    logits[1, 2] = bad
    soft = read_soft_labels(write_soft_labels(keep(logits)))
    assert soft.valid.tolist() == [True, False, True]
    assert soft.invalid == 1
    assert np.isfinite(soft.logits).all()


def test_logits_survive_to_half_precision() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (20, 7)).astype(np.float32)
    soft = read_soft_labels(write_soft_labels(keep(logits)))
    assert soft.logits.dtype == np.float32
    assert np.abs(soft.logits - logits).max() < 0.01


def test_equal_logits_give_equal_bytes() -> None:
    logits = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert write_soft_labels(keep(logits)) == write_soft_labels(keep(logits.copy()))


def test_truncated_file_is_named() -> None:
    data = write_soft_labels(keep(np.ones((3, 4), np.float32)))
    with pytest.raises(CorruptError, match="view-1: not a soft-label file"):
        read_soft_labels(data[:-1], "view-1")


def test_other_tensors_are_refused() -> None:
    data = save({"logits": np.ones((3, 4), np.float32), "valid": np.ones(3, bool)})
    with pytest.raises(CorruptError, match=r"logits float32 \[3, 4\], valid bool \[3\] are not"):
        read_soft_labels(data)
