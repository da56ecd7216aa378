"""What a stage hands back to the flow: its manifest, and how much of it had to be made."""

from __future__ import annotations

from dataclasses import dataclass

from infra.storage.manifest import Manifest


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    `made` of `total` outputs were made now; the others were found in the store.
    """

    manifest: Manifest
    made: int
    total: int
    samples: int = 0  # of what was made now, where the stage counts them

    @property
    def cached(self) -> bool:
        """Whether nothing had to be made."""
        return self.made == 0

    @property
    def message(self) -> str:
        """For people: what was found or made."""
        return f"{self.total} of {self.total} outputs found" if self.cached else f"made {self.made} of {self.total}"
