"""`gate:`: what a student must show before it gets an alias in the registry."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tasks.spec.base import Section

Share = Annotated[float, Field(ge=0, le=1)]

_BUDGETS = ("latency_ms", "bytes")


class GateSection(Section):
    """`gate:`"""

    enabled: bool = Field(True, description="false: no rule is applied, and every student becomes challenger")
    baselines: bool = Field(
        True,
        description="better than the majority, thumbnails and image borders, by the lower end of the 95 % interval; "
        "applied where evaluate.baselines is on",
    )
    patients: int = Field(30, ge=1, description="fewest patients with labelled test images; of fewer nothing is known")
    sensitivity: Share | None = Field(
        0.85, description="referable or not: least lower end of the 95 % interval; null: not asked for"
    )
    specificity: Share | None = Field(0.825, description="the same of specificity")
    recall: dict[str, Share] = Field(
        default_factory=dict, description="least recall by class, applied where a class has `cases` test images"
    )
    cases: int = Field(30, ge=1, description="fewest test images of a class for a floor on its recall")
    recall_floor: Share | None = Field(
        None, description="least recall of every class with `cases` test images that `recall` does not name"
    )
    worst_group: Share | None = Field(
        None, description="most that the main metric may be worse in the worst group (site, camera, ...) than on all"
    )
    ece: Share | None = Field(None, description="largest expected calibration error")
    latency_ms: float | None = Field(
        None, gt=0, description="most milliseconds for one image on one thread, median of the quickest file offered"
    )
    bytes: int | None = Field(None, gt=0, description="most bytes of the smallest file offered")
    margin: Share | None = Field(
        0.02,
        description="most that the main metric may be worse than the champion's on the same test images, by the lower "
        "end of the 95 % interval of the difference; null: not compared",
    )
    revision: int = Field(
        1, ge=1, description="raise it where the gate or its test set changes on purpose; recorded with each version"
    )

    def identity(self) -> dict[str, Any]:
        return self.asked() | {"revision": self.revision}

    def asked(self) -> dict[str, Any]:
        """The rules by themselves."""
        if not self.enabled:
            return {"enabled": False}
        found = self.model_dump(mode="json", exclude={"revision"})
        # Unset budgets ask for nothing: the rules are what they were before there were budgets.
        return {name: value for name, value in found.items() if name not in _BUDGETS or value is not None}
