"""The rules of the gate that read what stage export measured: parity of every file, latency, size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.gate.rules import FAILED, PASSED, Ruling
from tasks.spec.gate import GateSection


def rule_on_export(facts: Mapping[str, Any], section: GateSection) -> list[Ruling]:
    """Rulings on the files of a student.

    Args:
        facts: of a manifest of stage export.
    """
    offered = [row for row in facts["formats"] if row["offered"]]
    rulings = [_parity(offered)]
    if section.latency_ms is not None:
        rulings.append(_latency(offered, section.latency_ms))
    if section.bytes is not None:
        rulings.append(_size(offered, section.bytes))
    return rulings


def _parity(offered: list[Mapping[str, Any]]) -> Ruling:
    parts = [
        f"{row['format']} within {row['parity']['largest']:.2g}, {row['parity']['agreement']:.1%} the same class"
        for row in offered
    ]
    figure = f"{'; '.join(parts)} on {min(row['parity']['images'] for row in offered)} test images"
    beyond = [f"{row['format']}: {row['parity']['beyond']}" for row in offered if row["parity"]["beyond"]]
    asks = "every file answers as PyTorch does, within the bounds of its format"
    if beyond:
        return Ruling("parity", FAILED, f"{figure}; {'; '.join(beyond)}", asks)
    return Ruling("parity", PASSED, figure, asks)


def _latency(offered: list[Mapping[str, Any]], most: float) -> Ruling:
    rows = [
        (each["median_ms"], f"{row['format']} in {each['runtime']}")
        for row in offered
        for each in row["latency"]
        if (each["batch"], each["threads"]) == (1, 1)
    ]
    least, name = min(rows)
    figure = f"{least:.3g} ms, median of {name} for one image on one thread"
    return Ruling("latency", PASSED if least <= most else FAILED, figure, f"at most {most:g} ms (gate.latency_ms)")


def _size(offered: list[Mapping[str, Any]], most: int) -> Ruling:
    least, name = min((row["bytes"], row["format"]) for row in offered)
    verdict = PASSED if least <= most else FAILED
    return Ruling("size", verdict, f"{least} bytes, {name}", f"at most {most} bytes (gate.bytes)")
