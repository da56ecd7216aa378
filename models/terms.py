"""Names and defaults of loss terms, without torch: keys are computed where nothing trains."""

from __future__ import annotations

from dataclasses import dataclass

NEEDS_TEACHER = {"kl": True, "soft_binary": True, "cross_entropy": False, "binary": False}


@dataclass(frozen=True)
class Term:
    """One term of an objective; `models.losses` holds the formulas."""

    loss: str
    weight: float = 1.0
    temperature: float = 1.0
    where: str = "all"
    smoothing: float = 0.0


def default_terms(task: str, *, taught: bool) -> list[Term]:
    """Labels alone, or labels plus soft labels at temperature 1 (CIFAR's 4 does not carry over)."""
    on_labels = Term("binary" if task == "multilabel" else "cross_entropy", where="labelled")
    on_teacher = Term("soft_binary") if task == "multilabel" else Term("kl")
    return [on_labels, on_teacher] if taught else [on_labels]
