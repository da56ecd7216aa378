"""What repair did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.maintenance.verdict import Defect

REBUILT, RESTORED, REMOVED, OWED, LEFT = "rebuilt", "restored", "removed", "owed", "left"


@dataclass(frozen=True)
class Action:
    """What was done about one object."""

    object: str
    action: str  # rebuilt, restored, removed, owed (not there; a run makes it again) or left (broken as before)
    detail: str

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"object": self.object, "action": self.action, "detail": self.detail}


@dataclass(frozen=True)
class Repaired:
    """What was broken, and what was done about it."""

    defects: tuple[Defect, ...]
    actions: tuple[Action, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing was left broken."""
        return not any(action.action == LEFT for action in self.actions)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "whole": self.whole,
            "defects": [defect.to_json() for defect in self.defects],
            "actions": [action.to_json() for action in self.actions],
        }
