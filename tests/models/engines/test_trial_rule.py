"""The decision which engine to measure next, on recorded figures of one worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.engines.experience import Experience
from models.engines.trial_rule import Best, EngineFigures, Prospect, Work, expected_saving_s, next_trial
from tests.bench.engine_figures import auto_s, fixed_s

EAGER = 77.0
"""Images a second of a thread, eager float32, EfficientNet-Lite0 at 224 px."""

OPENVINO = Prospect("openvino-float32", 1.6, 0.45, 8.0)
ONNXRUNTIME = Prospect("onnxruntime-float32", 1.7, 0.45, 15.0)
COMPILE = Prospect("compile-float32", 1.1, 0.45, 60.0)
ALL = (OPENVINO, ONNXRUNTIME, COMPILE)


def _work(answers: int, workers: int = 2) -> Work:
    return Work(answers, workers, EAGER)


def _tried(answers: int, rates: dict[str, float], workers: int = 2) -> list[str]:
    """Engines that the rule tries one after the other where their rates are those."""
    work, best, left, tried = _work(answers, workers), Best(EAGER), list(ALL), []
    while (found := next_trial(left, work, best)) is not None:
        left.remove(found)
        tried.append(found.engine)
        work = work.after(found.set_up_s + 2)
        if rates[found.engine] > best.rate:
            best = Best(rates[found.engine], found.set_up_s)
    return tried


def test_an_ordinary_job_measures_an_engine_that_is_expected_to_be_faster() -> None:
    """26,094 answers, 169 s on eager float32: set-up of 8 or 15 s pays."""
    assert next_trial(ALL, _work(26_094), Best(EAGER)) in (OPENVINO, ONNXRUNTIME)


def test_a_small_job_measures_nothing() -> None:
    assert next_trial(ALL, _work(2_000), Best(EAGER)) is None


@pytest.mark.parametrize("answers", [200_000, 2_000_000])
def test_a_large_job_measures_more_than_one(answers: int) -> None:
    rates = {"openvino-float32": 130.0, "onnxruntime-float32": 140.0, "compile-float32": 80.0}
    assert set(_tried(answers, rates)) >= {"openvino-float32", "onnxruntime-float32"}


def test_what_takes_a_minute_is_tried_by_the_largest_jobs_alone() -> None:
    rates = {"openvino-float32": 130.0, "onnxruntime-float32": 140.0, "compile-float32": 80.0}
    assert "compile-float32" not in _tried(20_000, rates)
    assert "compile-float32" in _tried(20_000_000, rates)


def test_an_engine_known_to_be_slower_is_never_tried() -> None:
    slower = Prospect("compile-float32", 0.9, 0.0, 1.0)
    assert next_trial([slower], _work(10**9), Best(EAGER)) is None


def test_the_saving_of_a_known_ratio_is_the_difference_of_times() -> None:
    prospect = replace(OPENVINO, ratio=2.0, spread=0.0)
    work = Work(100_000, 1, 100.0)
    # A thousand seconds become five hundred, less the set-up, the comparison (0.64 + 0.32 s) and a second of timing.
    assert expected_saving_s(prospect, work, Best(100.0)) == pytest.approx(1000 - 500 - 8 - 0.96 - 1)


def test_the_chance_of_refusal_lowers_the_saving() -> None:
    work, best = _work(100_000), Best(EAGER)
    likely, unlikely = (expected_saving_s(replace(OPENVINO, chance=c), work, best) for c in (1.0, 0.3))
    assert likely > unlikely


def test_other_workers_go_on_meanwhile() -> None:
    work = Work(10_000, 4, 50.0)
    assert work.after(10.0).passes == 10_000 - 3 * 50 * 10
    assert work.after(1e6).passes == 0


def test_every_other_worker_sets_the_engine_up() -> None:
    assert Work(1_000, 4, 50.0).seconds(100.0, 8.0) == (1_000 / 100 + 3 * 8.0) / 4
    assert Work(1_000, 1, 50.0).seconds(100.0, 8.0) == 10.0


def test_when_the_others_would_be_done_before_the_trial_nothing_is_tried() -> None:
    assert next_trial(ALL, _work(20_000, workers=32), Best(EAGER)) is None


# Images a second of one thread and seconds of setting up: EfficientNet-Lite0 at 224 px, measured on an EPYC of the
# third generation, and on another machine as far as it is known (OpenVINO's 13 s and ONNX Runtime's 31 s were of two
# set-ups, both 1.5 to 2 times as fast).
RECORDED = {
    "epyc": {"eager-float32": (35.2, 0.1), "openvino-float32": (65.4, 4.1), "onnxruntime-float32": (72.9, 21.7)},
    "other": {"eager-float32": (77.0, 0.1), "openvino-float32": (115.0, 6.5), "onnxruntime-float32": (135.0, 15.5)},
}


@pytest.mark.parametrize("answers", [2_000, 20_000, 26_094, 200_000])
@pytest.mark.parametrize("machine", RECORDED)
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_choosing_included_a_job_takes_at_most_a_tenth_longer_than_on_the_best_engine(
    machine: str, answers: int, known: bool
) -> None:
    figures = {name: EngineFigures(rate, 8, set_up_s) for name, (rate, set_up_s) in RECORDED[machine].items()}
    experience = Experience("own", {"own": figures} if known else {})
    seconds, _ = auto_s(figures, answers, experience)
    assert seconds <= 1.1 * min(fixed_s(each, answers, name) for name, each in figures.items())
