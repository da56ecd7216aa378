"""Figures by group of test images, and the worst group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tasks.data.catalog import CATALOG, with_attributes
from tasks.evaluate.arms import Arm, Judged
from tasks.evaluate.groups import groups_of, groups_text, worst_groups
from tests.tasks.evaluate.truths import truth_of

LABEL = [0, 1, 2] * 30


def catalog(keys: np.ndarray, **columns: list[Any]) -> pa.Table:
    blank = pa.Table.from_pylist(
        [{"key": str(key)} for key in keys], schema=CATALOG.empty_table().select(["key"]).schema
    )
    table = with_attributes(blank)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, CATALOG.field(name), pa.array(values, CATALOG.field(name).type))
    return table


def judged(wrong: range) -> tuple[Judged, Arm]:
    """A student that is right but for some test images."""
    said = np.array([(label + 1) % 3 if place in wrong else label for place, label in enumerate(LABEL)])
    test = truth_of(LABEL)
    arm = Arm("taught", seeds=(0,), val=(), test=(0.1 + 0.7 * np.eye(3)[said],))
    return Judged("accuracy", "single", "accuracy", [arm], truth_of([]), test), arm


def groups(wrong: range, resamples: int = 200, **columns: list[Any]) -> dict[str, Any]:
    main, arm = judged(wrong)
    return groups_of(catalog(main.test.keys, **columns), main, arm, resamples=resamples, bins=5)


def test_a_site_that_is_worse_is_named_with_its_figures() -> None:
    found = groups(range(60, 80), site=["North"] * 60 + ["South"] * 30)
    north, south = found["by"]["site"]
    assert (north["group"], north["images"], north["value"]) == ("North", 60, 1.0)
    assert (south["group"], south["value"]) == ("South", 0.333333)
    assert found["worst"]["site"] == south
    facts = {"groups": found, "metric": "accuracy"}
    (line,) = worst_groups(facts)
    assert line.startswith("It is worst where site is South: accuracy 0.333 [")
    assert line.endswith("on 30 test images, 0.778 on all.")
    assert "| South (worst) | 30 |" in groups_text(facts)


def test_groups_that_do_not_differ_are_not_called_worst() -> None:
    found = groups(range(40, 50), site=["North", "South"] * 45)
    facts = {"groups": found, "metric": "accuracy"}
    assert worst_groups(facts) == []
    assert "(worst)" not in groups_text(facts)


def test_small_groups_and_unknown_ones_are_shown_and_not_judged_worst() -> None:
    found = groups(range(0, 10), site=[""] * 30 + ["A"] * 50 + ["B"] * 10, resamples=0)
    rows = {row["group"]: row["value"] for row in found["by"]["site"]}
    assert rows == {"A": 1.0, "not known": 0.666667, "B": None}
    assert found["worst"] == {}


def test_ages_are_bands_and_dates_years() -> None:
    found = groups(range(0), age=[10.0] * 30 + [64.0] * 30 + [float("nan")] * 30, date=["2019-01-02", "2020"] * 45)
    assert {row["group"] for row in found["by"]["age"]} == {"0 to 17", "40 to 64", "not known"}
    assert {row["group"] for row in found["by"]["year"]} == {"2019", "2020"}


def test_an_attribute_of_one_value_makes_no_groups() -> None:
    assert groups(range(0), sex=["female"] * 90)["by"] == {}
