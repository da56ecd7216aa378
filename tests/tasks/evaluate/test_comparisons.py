"""What a report says first: the gap closed, the majority; from given predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infra.digest import canonical_json
from tasks.evaluate.arms import Arm, Truth
from tasks.evaluate.comparisons import NO_GAP
from tasks.evaluate.grades import add_grades, judged_by
from tasks.evaluate.headline import gap_text, headline
from tasks.evaluate.results import summarise
from tests.tasks.evaluate.truths import truth_of

CLASSES = ["none", "mild", "severe"]


def guesses(label: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Probabilities of a model that knows `right` of the labels and guesses the others."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(label)) < right, label, rng.integers(0, 3, len(label)))
    return 0.1 + 0.7 * np.eye(3)[said]


def arm_of(name: str, val: Truth, test: Truth, right: float, seeds: tuple[int, ...] = (0,)) -> Arm:
    made = [
        tuple(guesses(t.label, right, 1000 * k + 10 * s + len(name)) for s in seeds) for k, t in enumerate((val, test))
    ]
    return Arm(name, seeds, made[0], made[1], keys=tuple(f"{name}-{s}" for s in seeds))


def constant(name: str, val: Truth, test: Truth) -> Arm:
    prob = np.array([0.5, 0.3, 0.2])
    return Arm(name, (0,), (np.tile(prob, (len(val), 1)),), (np.tile(prob, (len(test), 1)),), keys=(f"{name}-0",))


def truths(n_val: int = 300, n_test: int = 600) -> tuple[Truth, Truth]:
    return truth_of((np.arange(n_val) * 7 % 3).tolist()), truth_of((np.arange(n_test) * 7 % 3).tolist())


def judged(
    arms: list[Arm], val: Truth, test: Truth, *, metric: str = "accuracy", resamples: int = 200
) -> dict[str, Any]:
    facts = summarise("single", CLASSES, arms, val, test, metric=metric, resamples=resamples, bins=5)
    facts = {**facts, "teachers_on_validation": []}
    return {**facts, "headline": headline(facts)}


def line_of(taught: float, labels: float, teacher: float, **options: Any) -> dict[str, Any]:
    val, test = truths()
    seeds = (0, 1, 2)
    arms = [
        arm_of("taught", val, test, taught, seeds),
        arm_of("labels_only", val, test, labels, seeds),
        arm_of("teacher:big", val, test, teacher),
        constant("majority", val, test),
    ]
    return judged(arms, val, test, **options)


def test_the_share_of_the_gap_is_that_of_the_means_and_its_interval_holds_it() -> None:
    found = line_of(0.6, 0.2, 0.9)
    values = {arm: row["values"]["accuracy"] for arm, row in found["arms"].items()}
    expected = (values["taught"] - values["labels_only"]) / (values["teacher:big"] - values["labels_only"])
    own = found["gap_closed"]["arms"]["taught"]
    assert own["value"] == pytest.approx(expected, abs=1e-5)
    assert own["interval"][0] < own["value"] < own["interval"][1]
    assert "Share of the gap closed by student, taught" in found["headline"][1]
    assert "patients crossed with 3 seeds" in found["headline"][1]


def test_without_a_clear_gap_there_is_no_share_but_both_figures() -> None:
    found = line_of(0.6, 0.5, 0.5)
    assert (found["gap_closed"]["arms"], found["gap_closed"]["reason"]) == ({}, NO_GAP)
    (said,) = [line for line in found["headline"] if line.startswith("No gap to close")]
    for arm in ("teacher:big", "labels_only"):
        assert f"{found['arms'][arm]['values']['accuracy']:.3f}" in said
    assert gap_text(found, "taught") == NO_GAP
    assert gap_text(found, "majority") == "-"


def test_an_error_that_shrinks_closes_the_gap_too() -> None:
    found = line_of(0.6, 0.2, 0.9, metric="nll")
    assert found["gap_closed"]["gap"]["value"] > 0
    assert 0 < found["gap_closed"]["arms"]["taught"]["value"] < 1


def test_every_student_has_its_share_and_the_spec_s_own_is_registered() -> None:
    val, test = truths()
    arms = [
        arm_of("taught", val, test, 0.5),
        arm_of("oracle", val, test, 0.95),
        arm_of("two_phase", val, test, 0.7),
        arm_of("labels_only", val, test, 0.2),
        arm_of("teacher:big", val, test, 0.9),
    ]
    found = judged(arms, val, test)
    assert set(found["gap_closed"]["arms"]) == {"taught", "oracle", "two_phase"}
    assert set(found["differences"]) == {"taught", "oracle", "two_phase"}
    assert found["best"]["arm"] == "taught"
    assert found["difference"] == found["differences"]["taught"]


def test_the_teacher_of_the_gap_is_the_one_that_is_best_on_validation() -> None:
    val, test = truths()
    arms = [
        arm_of("taught", val, test, 0.5),
        arm_of("labels_only", val, test, 0.2),
        arm_of("teacher:a", val, test, 0.6),
        arm_of("teacher:b", val, test, 0.9),
    ]
    assert judged(arms, val, test)["gap_closed"]["teacher"] == "teacher:b"


def test_a_student_of_one_answer_is_said_to_be_no_better_first() -> None:
    val, test = truths()
    arms = [constant("taught", val, test), arm_of("labels_only", val, test, 0.2), constant("majority", val, test)]
    found = judged(arms, val, test)
    assert found["against_majority"]["better"] is False
    assert found["headline"][0].startswith(
        "The student is no better than the majority: it gives every test image the class none"
    )


@pytest.mark.parametrize(("value", "told"), [(0.0, "zero"), (None, "undefined")])
def test_a_validation_figure_that_says_nothing_is_told_first(value: float | None, told: str) -> None:
    facts = line_of(0.6, 0.2, 0.9)
    first = headline({**facts, "best": {**facts["best"], "val": value}})[0]
    assert first.startswith("On validation the accuracy of student, taught, seed")
    assert f"is {told}: seeds and weights were chosen by it" in first


def test_a_student_whose_interval_reaches_the_majority_is_no_better() -> None:
    val, test = truths(30, 30)
    found = judged([arm_of("taught", val, test, 0.1), constant("majority", val, test)], val, test)
    assert found["against_majority"]["better"] is False
    assert "the interval reaches the majority's figure" in found["headline"][0]


def test_a_student_that_knows_more_is_better() -> None:
    found = line_of(0.6, 0.2, 0.9)
    assert found["against_majority"]["better"] is True
    assert found["headline"][0].startswith("The student is better than the majority (student, taught, seed")


def beside_thumbnails(right: float, **options: Any) -> dict[str, Any]:
    val, test = truths()
    arms = [
        arm_of("taught", val, test, 0.5, (0, 1)),
        constant("majority", val, test),
        arm_of("thumbnails", val, test, right),
    ]
    return judged(arms, val, test, **options)


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_thumbnails_that_beat_the_student_are_named_beside_the_majority(metric: str) -> None:
    found = beside_thumbnails(0.9, metric=metric)
    own = found["against_baselines"]["thumbnails"]
    assert own["value"] < 0
    assert own["interval"][0] < own["value"] < own["interval"][1]
    assert found["headline"][1].startswith("It is not better than thumbnails 16 x 16, which see no medicine")
    for arm in ("taught", "thumbnails"):
        assert f"{found['arms'][arm]['values'][metric]:.3f}" in found["headline"][1]


def test_a_student_that_may_be_as_good_as_thumbnails_is_not_clearly_better() -> None:
    found = beside_thumbnails(0.49)
    assert found["headline"][1].startswith("It is not clearly better than thumbnails 16 x 16")


def test_thumbnails_that_the_student_beats_are_not_spoken_of() -> None:
    for resamples in (200, 0):
        found = beside_thumbnails(0.1, resamples=resamples)
        assert not [line for line in found["headline"] if "thumbnails" in line]


def test_without_teacher_or_labels_alone_the_share_is_not_known_and_why() -> None:
    val, test = truths()
    found = judged([arm_of("taught", val, test, 0.5)], val, test)
    assert "no teacher was trained here" in found["gap_closed"]["reason"]
    assert any("Share of the gap closed: not known" in line for line in found["headline"])
    found = judged([arm_of("taught", val, test, 0.5), arm_of("teacher:big", val, test, 0.9)], val, test)
    assert found["gap_closed"]["reason"] == "no student was trained on the labels alone"
    assert canonical_json(found)  # raises on NaN


def test_without_resamples_no_share_is_given() -> None:
    found = line_of(0.6, 0.2, 0.9, resamples=0)
    assert found["gap_closed"]["reason"] == "no intervals were asked for"
    assert found["gap_closed"]["gap"]["value"] > 0


def test_grades_are_judged_after_cut_points_where_the_argmax_says_one_grade() -> None:
    val, test = truths()

    def timid(label: np.ndarray, seed: int, noise: float) -> np.ndarray:
        worse = np.clip(0.1 + 0.06 * label + np.random.default_rng(seed).normal(0, noise, len(label)), 0.01, 0.4)
        return np.stack([1 - worse, worse / 2, worse / 2], axis=1)

    arms = [
        Arm("taught", (0, 1), *(tuple(timid(t.label, s, 0.04) for s in (i, 5 + i)) for i, t in enumerate((val, test)))),
        Arm(
            "labels_only",
            (0, 1),
            *(tuple(timid(t.label, s, 0.2) for s in (i, 5 + i)) for i, t in enumerate((val, test))),
        ),
        Arm("teacher:big", (0,), *((timid(t.label, 9, 0.01),) for t in (val, test))),
        constant("majority", val, test),
    ]
    arms = [Arm(a.name, a.seeds, a.val, a.test, keys=tuple(f"{a.name}{s}" for s in a.seeds)) for a in arms]
    main = judged_by("qwk_cut_points", arms, val, test, 3, 1)
    facts = summarise("ordinal", CLASSES, arms, val, test, metric=main.name, resamples=100, bins=5, main=main)
    facts = add_grades(facts, arms, val, test, referable=1, resamples=100, bins=5)
    assert facts["arms"]["taught"]["values"]["qwk"] == 0.0
    assert facts["arms"]["taught"]["values"]["qwk_cut_points"] > 0.3
    assert facts["chosen_by"] == "grade_auc"
    assert 0 < facts["gap_closed"]["arms"]["taught"]["value"] < 1
    first, second, *_ = headline({**facts, "teachers_on_validation": []})
    assert first.startswith("The student is better than the majority")
    assert "referable AUC" in first
    assert second.startswith("Its likeliest class is none for every test image: use its cut points")


def test_a_metric_of_grades_that_is_the_main_one_is_the_same_in_both_places() -> None:
    val, test = truths()
    arms = [arm_of("taught", val, test, 0.6, (0, 1)), arm_of("labels_only", val, test, 0.3, (0, 1))]
    for name in ("qwk_cut_points", "referable_auc"):
        main = judged_by(name, arms, val, test, 3, 1)
        facts = summarise("ordinal", CLASSES, arms, val, test, metric=name, resamples=50, bins=5, main=main)
        again = add_grades(facts, arms, val, test, referable=1, resamples=50, bins=5)
        for arm in ("taught", "labels_only"):
            assert again["arms"][arm]["values"][name] == facts["arms"][arm]["values"][name]
            assert again["arms"][arm]["interval"][name] == facts["arms"][arm]["interval"][name]
        assert again["metrics"].count(name) == 1


def test_start_and_teaching_are_told_apart() -> None:
    val, test = truths()
    arms = [
        arm_of("taught", val, test, 0.9),
        arm_of("labels_only", val, test, 0.8),
        arm_of("random_start", val, test, 0.5),
        arm_of("teacher:big", val, test, 0.9),
    ]
    facts = judged(arms, val, test)
    values = {arm: row["values"]["accuracy"] for arm, row in facts["arms"].items()}
    assert facts["start"]["value"] == pytest.approx(values["taught"] - values["random_start"], abs=1e-6)
    (line,) = [line for line in facts["headline"] if line.startswith("From the spec's start")]
    assert f"{facts['start']['value']:+.3f}" in line
    assert f"from teaching, at the same start: {facts['difference']['value']:+.3f}" in line


def test_without_a_random_start_nothing_is_said_of_the_start() -> None:
    facts = line_of(0.9, 0.6, 0.95)
    assert facts["start"] is None
    assert not [line for line in facts["headline"] if "start" in line]


def test_how_much_of_the_pool_taught_is_said_second() -> None:
    facts = line_of(0.8, 0.6, 0.9)
    said = headline({**facts, "pool": "0 of the pool's 40 unlabelled images teach the student."})
    assert said[1] == "0 of the pool's 40 unlabelled images teach the student."
    assert [said[0], *said[2:]] == facts["headline"]
