"""`select:` policy over stored soft labels."""

from __future__ import annotations

from pydantic import Field

from tasks.spec.base import Section


class SelectSection(Section):
    """`select:` per-sample weights over stored soft labels; costs no teacher time."""

    calibrate: bool = Field(True, description="fit a temperature per teacher on the validation split")
    min_confidence: float = Field(0.0, ge=0, le=1, description="unlabelled samples below get weight 0")
