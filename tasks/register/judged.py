"""What a registration knows of a student beside its training."""

from __future__ import annotations

from dataclasses import dataclass

from infra.storage.manifest import Manifest


@dataclass(frozen=True)
class Judged:
    """Of one student; each part may be missing.

    Attributes:
        report: manifest of stage evaluate: how its probabilities are read.
        export: manifest of stage export: its files. Without it `.pt2` and ONNX are made when it is packed, and no int8.
        gate: manifest of stage gate: its operating point.
        card: the model card, Markdown.
    """

    report: Manifest | None = None
    export: Manifest | None = None
    gate: Manifest | None = None
    card: str | None = None
