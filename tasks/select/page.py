"""What `select` did, as one short page for Prefect: numbers and names of stored objects, no key and no picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.storage.manifest import Manifest

_LISTS = {"hardest": "what the teachers find hardest", "label-errors": "likely label errors"}


def page(manifest: Manifest) -> str:
    """Markdown of a select manifest."""
    facts = manifest.facts
    lines = [
        f"# Selection: {facts['kept']:,} training images kept, {facts['dropped']:,} dropped",
        "",
        f"{facts['unlabelled']:,} of them are unlabelled.",
    ]
    dropped = {rule: count for rule, count in facts["dropped_by_rule"].items() if count}
    if dropped:
        lines += ["", *_table(["rule", "dropped"], [[rule, f"{count:,}"] for rule, count in dropped.items()])]
    if facts["calibration"]:
        lines += ["", "## Calibration on validation", "", *_calibration(facts["calibration"], facts["temperatures"])]
    lines += ["", "## Classes of the pool", "", *_classes(facts), "", *_places(manifest)]
    return "\n".join(lines).rstrip() + "\n"


def _calibration(told: Mapping[str, Mapping[str, Any]], temperatures: Mapping[str, float]) -> list[str]:
    names = list(dict.fromkeys(name for row in told.values() for name in row))
    rows = [
        [teacher, _number(temperatures.get(teacher)), *(_number(row.get(name)) for name in names)]
        for teacher, row in told.items()
    ]
    return _table(["teacher", "temperature", *(name.replace("_", " ") for name in names)], rows)


def _classes(facts: Mapping[str, Any]) -> list[str]:
    columns = {"share of the labels": "prior_by_class", "of the pool": "mass_by_class"}
    if facts["mass_unaligned"]:
        columns["of the pool before alignment"] = "mass_unaligned"
    rows = [
        [
            name,
            f"{facts['labelled_by_class'][name]:,}",
            *(_number(facts[column].get(name)) for column in columns.values()),
        ]
        for name in facts["labelled_by_class"]
    ]
    return _table(["class", "labelled", *columns], rows)


def _places(manifest: Manifest) -> list[str]:
    lines = []
    for kind, words in _LISTS.items():
        for output in manifest.outputs_where(kind=kind):
            lines.append(f"- {output.samples} of {words}, with thumbnails: `{output.name}`")
    why = manifest.facts.get("no_label_errors")
    return [*lines, f"- no list of label errors: {why}"] if why else lines


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
