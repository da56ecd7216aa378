"""The benchmark's ratios; no time is judged."""

from __future__ import annotations

from tests.bench.latency import ratios_of


def test_a_ratio_is_of_one_format_and_best_of_the_quickest_of_each() -> None:
    figures = {"micro": (1.2, 0.5), "mobilenetv2": (7.2, 4.0)}
    ms = {
        name: {form: {"median": time, "p95": time} for form, time in zip(("float32", "int8"), times, strict=True)}
        for name, times in figures.items()
    }
    assert ratios_of(ms, "mobilenetv2") == {"float32": 6.0, "int8": 8.0, "best": 8.0}
