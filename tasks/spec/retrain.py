"""`retrain:` when a scheduled run trains; it never enters a key."""

from __future__ import annotations

from pydantic import Field

from tasks.spec.base import Section


class RetrainSection(Section):
    """`retrain:` when a scheduled run trains; it never enters a key."""

    least_new: int = Field(
        0, ge=0, description="images that must be new since the last training; with fewer a run ingests and labels only"
    )
