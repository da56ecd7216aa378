"""The curves of a training as a table: for people who watch a run, without opening MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.distill.checkpoints import History
from tasks.pipeline.stage import Artifact, slug

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 24
"""Characters of a drawn curve; a longer one is thinned evenly."""

_FIRST = ("loss", "val_nll", "val_qwk", "val_auc", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_ece")
_ALWAYS_APART = ("step", "epoch")


def curves_of(label: str, history: History, best: Mapping[str, Any]) -> Artifact:
    """A row a figure: its curve over the steps, where it began, where it ended, and what the kept weights have.

    Args:
        label: of the training, for people.
        history: its log points; validations have figures that other points lack.
        best: the row of the history that the kept weights belong to.
    """
    found = {name for row in history for name in row} - set(_ALWAYS_APART)
    names = [name for name in _FIRST if name in found] + sorted(found - set(_FIRST))
    rows = []
    for name in names:
        values = [float(row[name]) for row in history if name in row]
        kept = f"{best[name]:.4g}" if name in best else ""
        rows.append([f"`{name}`", drawn(values), f"{values[0]:.4g}", f"{values[-1]:.4g}", kept])
    steps = [int(row["step"]) for row in history]
    span = f"steps {steps[0]} to {steps[-1]}" if steps else "no log points"
    kept = f"kept: the weights of step {best['step']}" if "step" in best else ""
    head = ["| figure | curve | first | last | kept |", "|---|---|---:|---:|---:|"]
    table = "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
    page = f"# {label}\n\n{'; '.join(filter(None, (span, kept)))}.\n\n{table}\n"
    return Artifact(f"curves-{slug(label)}", f"Training curves of {label}: {span}", page)


def drawn(values: Sequence[float]) -> str:
    """Values as a row of bars, from their least to their greatest."""
    if len(values) > WIDTH:
        values = [values[number * (len(values) - 1) // (WIDTH - 1)] for number in range(WIDTH)]
    low, high = min(values), max(values)
    if high == low:
        return BARS[3] * len(values)
    return "".join(BARS[round((value - low) / (high - low) * (len(BARS) - 1))] for value in values)
