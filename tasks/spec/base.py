"""What every section of a spec shares: unknown keys are errors, values are frozen."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> dict[str, Any]:
        """What of the section is hashed into keys: everything but paths and `run`."""
        return self.model_dump(mode="json")
