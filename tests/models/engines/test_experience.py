"""Expectations of engines from what was measured on a machine."""

from __future__ import annotations

import pytest

from models.engines.experience import Experience
from models.engines.trial_rule import EngineFigures, Prospect

REFERENCE, OTHER = "eager-float32", "openvino-float32"


def _expected(known: Experience, engine: str = OTHER) -> Prospect:
    return known.prospect(engine, REFERENCE, device="cpu", file=False)


def _network(ratio: float, set_up_s: float = 4.0) -> dict[str, EngineFigures]:
    return {REFERENCE: EngineFigures(50.0, 8, 0.1), OTHER: EngineFigures(50.0 * ratio, 16, set_up_s)}


def test_the_reference_is_expected_to_be_as_fast_as_itself() -> None:
    assert _expected(Experience(), REFERENCE).ratio == 1.0


def test_other_networks_of_the_machine_move_the_expectation() -> None:
    nothing = _expected(Experience())
    one = _expected(Experience("mine", {"a": _network(4.0)}))
    three = _expected(Experience("mine", {name: _network(4.0) for name in "abc"}))
    assert nothing.ratio < one.ratio < three.ratio < 4.0
    assert nothing.spread > one.spread > three.spread
    assert one.set_up_s == 4.0


def test_the_same_architecture_settles_it() -> None:
    known = _expected(Experience("mine", {"mine": _network(1.2, 6.0), "a": _network(4.0)}))
    assert known.ratio == pytest.approx(1.2)
    assert known.spread < 0.1
    assert known.set_up_s == 6.0


def test_a_network_without_the_reference_says_nothing_of_ratios() -> None:
    alone = {OTHER: EngineFigures(500.0, 8, 4.0)}
    assert _expected(Experience("mine", {"a": alone})) == _expected(Experience())


def test_what_failed_before_has_little_chance() -> None:
    failed = {**_network(1.0), OTHER: EngineFigures(0.0, 1, 2.0)}
    assert _expected(Experience("mine", {"mine": failed})).chance < 0.2
    assert _expected(Experience("mine", {"other": failed})) == _expected(Experience())


def test_a_file_is_set_up_faster_than_a_module() -> None:
    file = Experience().prospect(OTHER, "onnxruntime-float32", device="cpu", file=True)
    assert file.set_up_s < _expected(Experience()).set_up_s
