"""What verify found: defects, and how much was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MISSING, SIZE, BYTES, MANIFEST, HEAD = "missing", "size", "bytes", "manifest", "head"
SHOWN_SAMPLES = 5


@dataclass(frozen=True)
class Defect:
    """One object that is not as promised.

    `samples` are the keys of images that it no longer holds as ingested; damage beside images has none.
    """

    object: str
    kind: str  # missing, size, bytes, manifest or head
    detail: str
    samples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"object": self.object, "kind": self.kind, "samples": list(self.samples), "detail": self.detail}

    @property
    def line(self) -> str:
        """For people."""
        shown = ", ".join(self.samples[:SHOWN_SAMPLES]) + (", ..." if len(self.samples) > SHOWN_SAMPLES else "")
        hit = f"; {len(self.samples)} of its samples hit: {shown}" if self.samples else ""
        return f"{self.kind:<8} {self.object}: {self.detail}{hit}"


@dataclass(frozen=True)
class Verdict:
    """The state of a store.

    `objects` and `bytes` count what was read and held against its promise; `strays` are objects that no manifest
    names, which is no defect: what a run has not finished, or what gc may remove.
    """

    objects: int
    bytes: int
    defects: tuple[Defect, ...] = ()
    strays: int = 0
    stray_bytes: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "defects": [defect.to_json() for defect in self.defects],
            "strays": self.strays,
            "stray_bytes": self.stray_bytes,
        }


@dataclass
class Findings:
    """A verdict in the making; every object is blamed once."""

    objects: int = 0
    bytes: int = 0
    defects: dict[str, Defect] = field(default_factory=dict)

    def blame(self, object: str, kind: str, detail: str, samples: tuple[str, ...] = ()) -> None:
        """Note a defect, unless one of this object is known."""
        self.defects.setdefault(object, Defect(object, kind, detail, samples))

    def closed(self, strays: dict[str, int]) -> Verdict:
        """The verdict, defects by name."""
        defects = tuple(self.defects[name] for name in sorted(self.defects))
        return Verdict(self.objects, self.bytes, defects, len(strays), sum(strays.values()))
