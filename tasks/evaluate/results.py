"""The numbers of an evaluation: every arm on the same test images, intervals, differences, the best seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.bootstrap import Interval, Resampled, bootstrap, t_interval
from models.statistics.metrics import LOWER_IS_BETTER, assess, names, per_class
from tasks.data.corpus import Shard
from tasks.spec.arms import LABELS_ONLY, TAUGHT


@dataclass(frozen=True)
class Truth:
    """The judged images of one split, in shard order."""

    keys: np.ndarray  # [N] str
    label: np.ndarray  # [N] int32, -1 for multilabel
    labels: np.ndarray | None  # [N, C] int8
    patient: np.ndarray  # [N] str
    leak: np.ndarray  # [N] bool

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, parts: Sequence[tuple[Shard, np.ndarray]]) -> Truth:
        """Chosen rows (bool [N]) of each shard."""
        many = [s.labels[use] for s, use in parts if s.labels is not None]

        def column(name: str, kind: Any) -> np.ndarray:
            rows = [np.asarray(getattr(s, name))[use] for s, use in parts]
            return np.concatenate(rows) if rows else np.zeros(0, dtype=kind)

        return cls(
            keys=column("keys", object),
            label=column("label", np.int32),
            labels=np.concatenate(many) if many else None,
            patient=column("patient", object),
            leak=column("leak", bool),
        )

    def where(self, mask: np.ndarray) -> Truth:
        """Chosen rows."""
        labels = self.labels[mask] if self.labels is not None else None
        return Truth(self.keys[mask], self.label[mask], labels, self.patient[mask], self.leak[mask])


@dataclass(frozen=True)
class Arm:
    """One row of the comparison: a model in one or several seeds, or a baseline."""

    name: str  # taught, labels_only, teacher:<name>, majority, thumbnails, borders
    seeds: tuple[int, ...]
    val: tuple[np.ndarray, ...]  # [n_val, C] probabilities a seed
    test: tuple[np.ndarray, ...]  # [n_test, C] probabilities a seed
    parameters: int | None = None
    keys: tuple[str, ...] = ()  # manifest key a seed


def better(metric: str, value: float) -> float:
    """The value such that larger is better."""
    return -value if metric in LOWER_IS_BETTER else value


def summarise(
    task: str,
    classes: Sequence[str],
    arms: Sequence[Arm],
    val: Truth,
    test: Truth,
    *,
    metric: str,
    resamples: int,
    bins: int,
) -> dict[str, Any]:
    """Every number of the report, JSON-safe: None where undefined, with the reason under `undefined`.

    `arms.<name>` holds `values` (mean over seeds), `interval`, `per_seed`, `without_leaks`; `difference` is taught
    minus labels_only on the main metric, `best` the taught seed that is best on validation.
    """
    wanted = names(task)
    drawn = None
    if resamples:
        drawn = bootstrap(
            task,
            {arm.name: arm.test for arm in arms},
            test.label,
            test.labels,
            test.patient,
            resamples=resamples,
            metrics=_shown(task, metric),
            bins=bins,
        )
    rows = {arm.name: _row(task, arm, test, drawn, _shown(task, metric), bins) for arm in arms}
    if test.leak.any():
        for arm in arms:
            rows[arm.name]["without_leaks"] = _without_leaks(task, arm, test, metric, bins)
    best = _best(task, arms, val, metric, bins)
    return {
        "task": task,
        "classes": list(classes),
        "metric": metric,
        "metrics": wanted,
        "resamples": resamples,
        "bins": bins,
        "images": {"val": len(val), "test": len(test)},
        "patients": len(np.unique(test.patient.astype(str))),
        "leaks": int(test.leak.sum()),
        "absent": [name for c, name in enumerate(classes) if not _occurs(test, c)],
        "arms": rows,
        "difference": _difference(rows, drawn, metric),
        "best": best,
        "per_class": _per_class(task, classes, arms, test, best),
    }


def _shown(task: str, metric: str) -> tuple[str, ...]:
    return tuple(n for n in names(task) if n in {metric, "accuracy", "macro_f1", "mcc", "auc", "ece"})


def _row(task: str, arm: Arm, test: Truth, drawn: Resampled | None, shown: Sequence[str], bins: int) -> dict[str, Any]:
    found = [assess(task, prob, test.label, test.labels, bins=bins) for prob in arm.test]
    undefined: dict[str, str] = {}
    for each in found:
        undefined.update(each.undefined)
    intervals = {name: drawn.interval(arm.name, name) for name in shown} if drawn is not None else {}
    return {
        "seeds": list(arm.seeds),
        "parameters": arm.parameters,
        "values": {name: mean_of([each.values[name] for each in found]) for name in names(task)},
        "interval": {name: pair_of(found) for name, found in intervals.items()},
        "per_seed": [{name: rounded(value) for name, value in each.values.items()} for each in found],
        "undefined": undefined,
    }


def _without_leaks(task: str, arm: Arm, test: Truth, metric: str, bins: int) -> float | None:
    clean = ~test.leak
    if not clean.any():
        return None
    rest = test.where(clean)
    return mean_of([assess(task, prob[clean], rest.label, rest.labels, bins=bins).values[metric] for prob in arm.test])


def _difference(rows: dict[str, Any], drawn: Resampled | None, metric: str) -> dict[str, Any] | None:
    if TAUGHT not in rows or LABELS_ONLY not in rows:
        return None
    values = [dict(zip(rows[a]["seeds"], rows[a]["per_seed"], strict=True)) for a in (TAUGHT, LABELS_ONLY)]
    paired = [(values[0][seed][metric], values[1][seed][metric]) for seed in sorted(values[0]) if seed in values[1]]
    each = [a - b for a, b in paired if a is not None and b is not None]
    means = [rows[a]["values"][metric] for a in (TAUGHT, LABELS_ONLY)]
    return {
        "value": rounded(means[0] - means[1]) if None not in means else None,
        "interval": pair_of(drawn.difference(TAUGHT, LABELS_ONLY, metric)) if drawn is not None else None,
        "seeds": len(each),
        "per_seed": [rounded(value) for value in each],
        "t_interval": [rounded(v) for v in t] if (t := t_interval(each)) is not None else None,
    }


def _best(task: str, arms: Sequence[Arm], val: Truth, metric: str, bins: int) -> dict[str, Any] | None:
    arm = next((a for a in arms if a.name == TAUGHT), None)
    if arm is None:
        return None
    scores: list[float | None] = [None] * len(arm.seeds)
    if len(val):
        scores = [assess(task, p, val.label, val.labels, bins=bins).values[metric] for p in arm.val]
    order = sorted(
        range(len(arm.seeds)),
        key=lambda i: (-better(metric, s) if (s := scores[i]) is not None else math.inf, arm.seeds[i]),
    )
    first = order[0]
    return {"seed": arm.seeds[first], "key": arm.keys[first], "val": rounded(scores[first])}


def _per_class(
    task: str, classes: Sequence[str], arms: Sequence[Arm], test: Truth, best: dict[str, Any] | None
) -> list[dict[str, Any]]:
    prob = shown_arm(arms, best)[1]
    rows = per_class(task, prob, test.label, test.labels)
    return [
        {"class": name, "n": int(row["n"] or 0), **{k: rounded(v) for k, v in row.items() if k != "n"}}
        for name, row in zip(classes, rows, strict=True)
    ]


def shown_arm(arms: Sequence[Arm], best: dict[str, Any] | None) -> tuple[str, np.ndarray]:
    """Name and test probabilities of the model that plots and per-class table show: the best taught seed."""
    if best is not None:
        arm = next(a for a in arms if a.name == TAUGHT)
        return f"taught student, seed {best['seed']}", arm.test[arm.seeds.index(best["seed"])]
    return arms[0].name, arms[0].test[0]


def _occurs(test: Truth, c: int) -> bool:
    return bool((test.label == c).any() if test.labels is None else (test.labels[:, c] == 1).any())


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of those that are defined; None where none is."""
    known = [value for value in values if value is not None]
    return rounded(float(np.mean(known))) if known else None


def pair_of(found: Interval | None) -> list[float | None] | None:
    """An interval for JSON."""
    return None if found is None else [rounded(found.low), rounded(found.high)]


def rounded(value: float | None) -> float | None:
    """Six digits are more than any interval resolves, and few enough to repeat on every machine."""
    return None if value is None else round(float(value), 6)
