"""Tables of a report as plain cells, which the page and the model card both show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.statistics.counts import confusion
from tasks.data.corpus import Corpus
from tasks.data.decisions import decided
from tasks.drawing.markdown import cell_text, interval_text, number, table_text
from tasks.evaluate.headline import gap_text
from tasks.evaluate.report import columns
from tasks.evaluate.titles import METRIC_TITLES, title_of
from tasks.report.predictions import NAMED, Predicted

SPLITS = ("train", "val", "test")
_GRADES = ("qwk", "qwk_cut_points", "mae", "referable_auc", "referable_ece")


@dataclass(frozen=True)
class Table:
    """Cells in rows; the first column is text, the others are figures.

    Attributes:
        strong: numbers of the rows that stand out.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()

    def markdown(self) -> str:
        """As Markdown."""
        return table_text(list(map(cell_text, self.head)), [list(map(cell_text, row)) for row in self.rows])


def _figure(row: Mapping[str, Any], metric: str) -> str:
    return number(row["values"].get(metric)) + interval_text(row["interval"].get(metric))


def arms(facts: Mapping[str, Any]) -> Table:
    """Every model on the main metrics, with intervals."""
    shown, rows = columns(facts), []
    best = facts["best"]["arm"]
    for arm, row in facts["arms"].items():
        seeds = f" ({len(row['seeds'])} seeds)" if len(row["seeds"]) > 1 else ""
        figures = [_figure(row, metric) for metric in shown]
        parameters = f"{row['parameters']:,}" if row["parameters"] else "-"
        rows.append([title_of(arm) + seeds, *figures, gap_text(facts, arm), parameters])
    head = ["model", *(METRIC_TITLES[metric] for metric in shown), "gap closed", "parameters"]
    return Table(head, rows, frozenset(n for n, arm in enumerate(facts["arms"]) if arm == best))


def registered(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every metric of the one student that is registered: of its seed, not of the mean."""
    best = facts["best"]
    row = facts["arms"][best["arm"]]
    own = row["per_seed"][row["seeds"].index(best["seed"])]
    return [(METRIC_TITLES.get(name, name), number(own[name])) for name in facts["metrics"] if name in own]


def grades(facts: Mapping[str, Any]) -> Table | None:
    """Metrics of grades; None where there are no grades."""
    if "grades" not in facts:
        return None
    shown = [metric for metric in _GRADES if metric in facts["metrics"]]
    rows = [[title_of(arm), *(_figure(row, metric) for metric in shown)] for arm, row in facts["arms"].items()]
    return Table(["model", *(METRIC_TITLES[metric] for metric in shown)], rows)


def per_class(facts: Mapping[str, Any], found: Confusion) -> Table:
    """Recall, precision and F1 of each class as the student to register decides, and its AUC."""
    cells = np.array(found.cells)
    if facts["task"] == "multilabel":
        hits, missed, alarms, _ = cells.T
    else:
        hits = np.diag(cells)
        missed, alarms = cells.sum(axis=1) - hits, cells.sum(axis=0) - hits
    rows = [
        [
            row["class"],
            f"{row['n']:,}",
            _share(hits[n], hits[n] + missed[n]),
            _share(hits[n], hits[n] + alarms[n]),
            _share(2 * hits[n], 2 * hits[n] + missed[n] + alarms[n]),
            number(row["auc"]),
        ]
        for n, row in enumerate(facts["per_class"])
    ]
    return Table(["class", "test images", "recall", "precision", "F1", "AUC"], rows)


def _share(part: int, whole: int) -> str:
    return number(part / whole if whole else None)


def groups(facts: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Attribute and table of the main metric in each group of test images."""
    found = facts.get("groups")
    if not found:
        return []
    name = METRIC_TITLES[facts["metric"]]
    tables = []
    for attribute, rows in found["by"].items():
        worst = found["worst"].get(attribute, {}).get("group")
        cells = [
            [
                row["group"],
                f"{row['images']:,}",
                f"{row['patients']:,}",
                "too few" if row["value"] is None else number(row["value"]) + interval_text(row["interval"]),
            ]
            for row in rows
        ]
        strong = frozenset(n for n, row in enumerate(rows) if row["group"] == worst)
        tables.append((attribute, Table([attribute, "test images", "patients", name], cells, strong)))
    return tables


def by_corpus(facts: Mapping[str, Any]) -> Table | None:
    """Every model on the test images of each corpus; None where there is one."""
    rows = facts.get("corpora")
    if not rows:
        return None
    head = ["model", *(f"{row['corpus']} ({row['images']:,} images)" for row in rows)]
    cells = [
        [
            title_of(arm),
            *(number(row["arms"][arm]["value"]) + interval_text(row["arms"][arm]["interval"]) for row in rows),
        ]
        for arm in rows[0]["arms"]
    ]
    return Table(head, cells)


def counts(corpus: Corpus) -> Table:
    """Images, labelled ones and patients of each split, then the labelled ones of each class."""
    rows = []
    for split in SPLITS:
        shards = corpus.of_split(split)
        row = [sum(int(s.used.sum()) for s in shards), sum(int(s.labelled.sum()) for s in shards)]
        row.append(len({p for s in shards for p in s.patient[s.used].tolist()}))
        for place in range(len(corpus.classes)):
            row.append(
                sum(
                    int((s.label == place).sum() if s.labels is None else (s.labels[:, place] == 1).sum())
                    for s in shards
                )
            )
        rows.append(row)
    heads = ["images", "labelled", "patients", *corpus.classes]
    cells = [[head, *(f"{row[n]:,}" for row in rows)] for n, head in enumerate(heads)]
    return Table(["", *SPLITS], cells, frozenset({0, 1, 2}))


@dataclass(frozen=True)
class Confusion:
    """Counts of test images by truth (rows) and decision (columns).

    Attributes:
        shares: of the row, as `cells`.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    cells: list[list[int]]
    shares: list[list[float]]
    across: str


def confused(facts: Mapping[str, Any], test: Predicted) -> Confusion:
    """What the student to register decided; of several labels how often each was found, missed or named in error."""
    names = facts["classes"]
    if test.labels is None:
        table = confusion(test.label, decided(facts, test.prob), len(names), np.ones((len(test), 1)))[0]
        columns_, across = list(names), "decided"
    else:
        named, there, known = test.prob >= NAMED, test.labels == 1, test.labels >= 0
        sides = [there & named, there & ~named, known & ~there & named, known & ~there & ~named]
        table = np.stack([side.sum(axis=0) for side in sides], axis=1)
        columns_, across = ["found", "missed", "false alarm", "rightly not named"], f"named from {NAMED} on"
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    return Confusion(columns_, list(names), table.astype(int).tolist(), share.tolist(), across)


def formats(export: Mapping[str, Any]) -> Table:
    """The student's files, and how far each is from the network that was evaluated."""
    rows = []
    for each in export["formats"]:
        parity = each.get("parity") or {}
        opset = f"opset {each['opset']}, IR {each['ir']}" if each.get("opset") else ""
        moved = parity.get("metric_difference")
        rows.append(
            [
                each["format"],
                opset,
                f"{each['bytes'] / 1000:,.0f} kB",
                _small(parity.get("largest")),
                "-" if parity.get("agreement") is None else f"{100 * parity['agreement']:.1f} %",
                "-" if moved is None else f"{moved:+.4f}{interval_text(parity.get('interval'))}",
                "yes" if each.get("offered") else f"no: {each.get('why') or 'no reason given'}",
            ]
        )
    head = ["format", "", "size", "largest difference", "same class", "metric moves by", "offered"]
    return Table(head, rows)


def latency(export: Mapping[str, Any]) -> Table | None:
    """Milliseconds of each format, runtime, batch and number of threads; None where nothing was measured."""
    rows = [
        [
            f"{each['format']}, {row['runtime']}",
            str(row["batch"]),
            str(row["threads"]),
            f"{row['median_ms']:.2f}",
            f"{row['p95_ms']:.2f}",
        ]
        for each in export["formats"]
        for row in each.get("latency") or ()
    ]
    return Table(["format and runtime", "batch", "threads", "median ms", "95th percentile ms"], rows) if rows else None


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
