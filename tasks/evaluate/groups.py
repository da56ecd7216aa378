"""The student by groups of test images: corpora, sites, cameras, projections, sexes, ages, years, eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpora.attributes import age_band
from tasks.drawing.markdown import cell_text, interval_text, number, table_text
from tasks.evaluate.arms import Arm, Judged, mean_of, pair_of
from tasks.evaluate.titles import METRIC_TITLES, title_of

ATTRIBUTES = ("corpus", "site", "camera", "projection", "sex", "age", "year", "eye")
FEWEST = 20
"""Test images of a group that is judged: of fewer an interval says nothing."""
UNKNOWN = "not known"

_SHOWN = 12  # rows of an attribute in the report


def groups_of(catalog: pa.Table, main: Judged, arm: Arm, *, resamples: int, bins: int) -> dict[str, Any]:
    """The main metric of one arm in each group of test images, mean over its seeds.

    `arm`; `whole`: its value on all test images; `by`: attribute to rows of `group`, `images`, `patients`, `value`,
    `interval` (None where fewer than FEWEST images or no value), the largest group first; `worst`: attribute to the row
    of the lowest value (highest where lower is better) among two or more judged groups of known value. Attributes
    with one known value are left out.
    """
    rows = rows_of_test(catalog, main)
    by: dict[str, list[dict[str, Any]]] = {}
    worst: dict[str, dict[str, Any]] = {}
    for attribute in ATTRIBUTES:
        if attribute == "corpus" and attribute not in rows.column_names:
            continue
        values = _values(rows, attribute)
        names, counts = np.unique(values, return_counts=True)
        if len(set(names) - {UNKNOWN}) < 2:
            continue
        order = names[np.lexsort((names, -counts))]
        by[attribute] = [judged_group(main, arm, str(name), values == name, resamples, bins) for name in order]
        judged = [row for row in by[attribute] if row["value"] is not None and row["group"] != UNKNOWN]
        if len(judged) > 1:
            worst[attribute] = min(judged, key=lambda row: main.better(row["value"]))
    whole = mean_of([each.values[main.metric] for each in main.on_test(arm, bins)])
    return {"arm": arm.name, "whole": whole, "by": by, "worst": worst}


def rows_of_test(catalog: pa.Table, main: Judged) -> pa.Table:
    """Rows of the catalog of the test images that are judged, in their order."""
    return catalog.take(pc.index_in(pa.array(main.test.keys.astype(str)), value_set=catalog["key"].combine_chunks()))


def _values(rows: pa.Table, attribute: str) -> np.ndarray:
    """[N] str, the group of each image."""
    if attribute == "age":
        return np.array([_band(age) for age in rows["age"].to_pylist()], dtype=str)
    column = pc.utf8_slice_codeunits(rows["date"], 0, 4) if attribute == "year" else rows[attribute]
    return np.array([text or UNKNOWN for text in column.to_pylist()], dtype=str)


def _band(age: float) -> str:
    return UNKNOWN if np.isnan(age) else age_band(age)


def judged_group(main: Judged, arm: Arm, name: str, rows: np.ndarray, resamples: int, bins: int) -> dict[str, Any]:
    """One row of `groups_of`; `rows`: [N] bool, the test images of the group."""
    test = main.test.where(rows)
    found: dict[str, Any] = {
        "group": name,
        "images": len(test),
        "patients": len(np.unique(test.patient.astype(str))),
        "value": None,
        "interval": None,
    }
    if len(test) < FEWEST:
        return found
    own = replace(arm, test=tuple(prob[rows] for prob in arm.test))
    part = replace(main, arms=[own], test=test)
    found["value"] = mean_of([each.values[main.metric] for each in part.on_test(own, bins)])
    drawn = part.resampled("test", resamples, bins)
    if found["value"] is not None and drawn is not None:
        found["interval"] = pair_of(drawn.interval(own.name, main.metric))
    return found


def worst_groups(facts: Mapping[str, Any]) -> list[str]:
    """Sentences on groups in which the student is clearly worse than on all test images."""
    found, name = facts["groups"], METRIC_TITLES[facts["metric"]]
    lines = []
    for attribute, row in found["worst"].items():
        if not _clearly_worse(row, found["whole"]):
            continue
        span = row["interval"]
        lines.append(
            f"It is worst where {attribute} is {row['group']}: {name} {number(row['value'])}{interval_text(span)} on "
            f"{row['images']} test images, {number(found['whole'])} on all."
        )
    return lines


def _clearly_worse(row: Mapping[str, Any], whole: float | None) -> bool:
    """Whether the worst group differs by more than its interval."""
    span = row["interval"]
    return span is not None and whole is not None and not span[0] <= whole <= span[1]


def groups_text(numbers: Mapping[str, Any]) -> str:
    """Section "Groups" in Markdown."""
    found, name = numbers["groups"], METRIC_TITLES[numbers["metric"]]
    parts = [
        f"{name} of {title_of(found['arm'])} on the test images of each group, mean over its seeds; groups of fewer "
        f"than {FEWEST} images are not judged, and one is called worst where its interval leaves the figure of all out."
    ]
    for attribute, rows in found["by"].items():
        worst = found["worst"].get(attribute)
        worst = worst if worst is not None and _clearly_worse(worst, found["whole"]) else None
        cells = [
            [
                cell_text(row["group"]) + (" (worst)" if worst and row["group"] == worst["group"] else ""),
                f"{row['images']:,}",
                f"{row['patients']:,}",
                number(row["value"]) + interval_text(row["interval"]),
            ]
            for row in rows[:_SHOWN]
        ]
        parts.append(table_text([attribute, "test images", "patients", name], cells))
        if len(rows) > _SHOWN:
            hidden = rows[_SHOWN:]
            more = (
                f"{len(hidden)} smaller groups with {sum(row['images'] for row in hidden):,} images are in metrics.json"
            )
            parts.append(f"{more}; the worst is sought among them too.")
    return "\n\n".join(parts)
