"""The rules of the gate on an export's figures."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.gate.budgets import rule_on_export
from tasks.gate.rules import FAILED, PASSED, Ruling
from tasks.spec.gate import GateSection


def row(name: str, size: int, *times: float, offered: bool = True, beyond: str = "") -> dict[str, Any]:
    """A format with a latency for one image on one thread in each of some runtimes, and on two threads in a tenth."""
    latency = [
        {"batch": 1, "threads": threads, "runtime": f"runtime-{place}", "median_ms": time / (10 if threads > 1 else 1)}
        for place, time in enumerate(times)
        for threads in (1, 2)
    ]
    parity = {"images": 256, "largest": 0.04, "agreement": 0.996, "beyond": beyond}
    return {"format": name, "bytes": size, "offered": offered, "parity": parity, "latency": latency}


FACTS = {
    "formats": [
        row("onnx", 2000, 1.5, 1.2),
        row("onnx_int8", 800, 0.4, offered=False, beyond="a probability differs by 0.300"),
    ]
}


def rulings(facts: dict[str, Any] = FACTS, **section: Any) -> dict[str, Ruling]:
    return {found.rule: found for found in rule_on_export(facts, GateSection(**section))}


def test_parity_is_always_judged_on_what_is_offered() -> None:
    found = rulings()
    assert list(found) == ["parity"]
    assert (found["parity"].verdict, found["parity"].figure) == (
        PASSED,
        "onnx within 0.04, 99.6% the same class on 256 test images",
    )


def test_a_file_beyond_its_bounds_fails() -> None:
    found = rulings({"formats": [row("onnx", 2000, 1.0, beyond="a probability differs by 0.0100")]})["parity"]
    assert found.verdict == FAILED
    assert "onnx: a probability differs by 0.0100" in found.figure


@pytest.mark.parametrize(("most", "verdict"), [(1.2, PASSED), (1.1, FAILED)])
def test_latency_is_that_of_the_quickest_file_offered(most: float, verdict: str) -> None:
    found = rulings(latency_ms=most)["latency"]
    assert (found.verdict, found.asks) == (verdict, f"at most {most} ms (gate.latency_ms)")
    assert found.figure == "1.2 ms, median of onnx in runtime-1 for one image on one thread"


@pytest.mark.parametrize(("most", "verdict"), [(2000, PASSED), (1999, FAILED)])
def test_size_is_that_of_the_smallest_file_offered(most: int, verdict: str) -> None:
    found = rulings(bytes=most)["size"]
    assert (found.verdict, found.figure) == (verdict, "2000 bytes, onnx")


def test_budgets_that_are_not_set_leave_the_section_as_it_was() -> None:
    assert not {"latency_ms", "bytes"} & set(GateSection().identity())
    assert GateSection(latency_ms=2.0).identity() == {**GateSection().identity(), "latency_ms": 2.0}
