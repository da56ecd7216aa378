"""`teachers:` who teaches."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tasks.spec.train import ModelSection, TrainSection


class TeacherSection(ModelSection):
    """One of `teachers:`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the teacher in this spec")
    train: TrainSection | None = Field(None, description="fine-tune on the labels first; null: use as it is")

    def identity(self) -> dict[str, Any]:
        section = self.model_dump(mode="json", exclude={"weights", "name"})
        section["train"] = self.train.identity() if self.train else None
        return section
