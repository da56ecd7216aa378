"""Teachers beside the student on labels alone: verdicts from predictions that the tests choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infra.digest import canonical_json
from infra.storage.store import LocalStore
from tasks.evaluate.arms import Arm, Judged, Truth
from tasks.evaluate.scope import WholeTeacher
from tasks.evaluate.teacher_verdicts import BETTER, NO_BETTER, UNCLEAR, teachers_on_validation, verdict_text, verdicts
from tests.tasks.evaluate.truths import truth_of
from tests.tasks.trained import tiny_spec
from tests.tiny import tiny_corpus

LABEL = np.arange(300) * 7 % 3
VAL = truth_of(LABEL.tolist())


def guesses(right: float, seed: int) -> np.ndarray:
    """Probabilities of a model that knows `right` of the labels and guesses the others."""
    rng = np.random.default_rng(seed)
    return 0.1 + 0.7 * np.eye(3)[np.where(rng.random(len(LABEL)) < right, LABEL, rng.integers(0, 3, len(LABEL)))]


def arm_of(name: str, *probabilities: np.ndarray) -> Arm:
    empty = tuple(np.zeros((0, 3)) for _ in probabilities)
    return Arm(name, tuple(range(len(probabilities))), probabilities, empty)


def judged(arms: list[Arm], wholes: Sequence[WholeTeacher] = (), **options: Any) -> list[dict[str, Any]]:
    metric, val = options.get("metric", "accuracy"), options.get("val", VAL)

    def judge(chosen: Sequence[Arm]) -> Judged:
        return Judged(metric, "single", metric, chosen, val, Truth.of([]))

    return verdicts(judge, arms, wholes, resamples=options.get("resamples", 200), bins=5)


ALONE = arm_of("labels_only", guesses(0.4, 1), guesses(0.4, 2), guesses(0.4, 3))


@pytest.mark.parametrize(
    ("right", "verdict", "said"),
    [
        (0.9, BETTER, "is better than"),
        (0.05, NO_BETTER, "is no better than"),
        (0.42, UNCLEAR, "cannot be told apart from"),
    ],
)
def test_the_verdict_is_that_of_the_interval(right: float, verdict: str, said: str) -> None:
    (row,) = judged([ALONE, arm_of("teacher:big", guesses(right, 9))])
    assert row["verdict"] == verdict
    assert verdict_text(row) == (
        f"On validation teacher big {said} the student's own labels-alone arm: accuracy {row['value']:.3f} against "
        f"{row['labels_only']:.3f} (mean of 3 seeds), difference {row['difference']:+.3f} "
        f"[{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]; 300 images of 300 patients."
    )


def test_a_teacher_that_says_what_the_student_says_is_no_better() -> None:
    same = guesses(0.5, 4)
    (row,) = judged([arm_of("labels_only", same), arm_of("teacher:big", same)])
    assert (row["difference"], row["interval"], row["verdict"]) == (0.0, [0.0, 0.0], NO_BETTER)


def test_the_student_s_figure_is_the_mean_over_its_seeds() -> None:
    (row,) = judged([ALONE, arm_of("teacher:big", guesses(0.9, 9))])
    each = [float((prob.argmax(axis=1) == LABEL).mean()) for prob in ALONE.val]
    assert row["labels_only"] == pytest.approx(np.mean(each), abs=1e-6)
    assert row["seeds"] == 3


def test_seeds_that_differ_widen_the_interval() -> None:
    teacher = arm_of("teacher:big", guesses(0.6, 9))
    spread = arm_of("labels_only", guesses(0.1, 1), guesses(0.4, 2), guesses(0.7, 3))
    widths = [row["interval"][1] - row["interval"][0] for own in (ALONE, spread) for row in judged([own, teacher])]
    assert widths[1] > 1.5 * widths[0]


def test_images_of_one_patient_count_together() -> None:
    arms = [ALONE, arm_of("teacher:big", guesses(0.6, 9))]
    few = replace(VAL, patient=np.array([f"p{i // 20}" for i in range(300)], dtype=object))
    (own,), (together,) = judged(arms), judged(arms, val=few)
    assert (own["patients"], together["patients"], together["images"]) == (300, 15, 300)
    assert own["interval"] != together["interval"]


def test_members_are_judged_by_their_mean() -> None:
    members = [arm_of(f"teacher:big-{n}", guesses(0.5, 10 + n)) for n in (1, 2, 3)]
    whole = WholeTeacher("teacher:big", tuple(arm.name for arm in members), 5)
    (row,) = judged([ALONE, *members], [whole])
    mean = np.mean([arm.val[0] for arm in members], axis=0)
    assert row["value"] == pytest.approx(float((mean.argmax(axis=1) == LABEL).mean()), abs=1e-6)
    assert (row["teacher"], row["members"], row["views"]) == ("teacher:big", 3, 5)
    assert verdict_text(row).startswith("On validation teacher big (mean of 3 members, 5 views) is ")


def test_several_teachers_are_also_judged_together_each_member_alike() -> None:
    members = [arm_of(f"teacher:big-{n}", guesses(0.5, 10 + n)) for n in (1, 2)]
    other = arm_of("teacher:other", guesses(0.7, 20))
    rows = judged([ALONE, *members, other], [WholeTeacher("teacher:big", ("teacher:big-1", "teacher:big-2"), 1)])
    assert [row["teacher"] for row in rows] == ["teacher:big", "teacher:other", "teachers"]
    mean = np.mean([arm.val[0] for arm in (*members, other)], axis=0)
    assert rows[2]["value"] == pytest.approx(float((mean.argmax(axis=1) == LABEL).mean()), abs=1e-6)
    assert verdict_text(rows[2]).startswith("On validation mean of the teachers is ")


def test_a_smaller_error_is_better() -> None:
    (row,) = judged([ALONE, arm_of("teacher:big", guesses(0.9, 9))], metric="nll")
    assert row["value"] < row["labels_only"]
    assert row["difference"] > 0
    assert row["verdict"] == BETTER


def test_without_resamples_nothing_is_told_apart() -> None:
    (row,) = judged([ALONE, arm_of("teacher:big", guesses(0.9, 9))], resamples=0)
    assert (row["interval"], row["verdict"]) == (None, UNCLEAR)
    assert f"difference {row['difference']:+.3f} without an interval;" in verdict_text(row)


def test_what_is_undefined_is_said_to_be() -> None:
    one = truth_of([1] * 300)
    (row,) = judged([ALONE, arm_of("teacher:big", guesses(0.9, 9))], metric="auc", val=one)
    assert (row["difference"], row["interval"], row["verdict"]) == (None, None, None)
    assert "cannot be compared with the student's own labels-alone arm: AUC undefined" in verdict_text(row)
    assert canonical_json(row)  # raises on NaN


def test_without_validation_images_nothing_is_compared() -> None:
    none = [arm_of(name, np.zeros((0, 3))) for name in ("labels_only", "teacher:big")]
    (row,) = judged(none, val=Truth.of([]))
    assert row["verdict"] is None
    assert verdict_text(row).endswith("labels-alone arm: no validation image is labelled.")


def test_without_either_side_there_is_no_row() -> None:
    assert judged([ALONE]) == judged([arm_of("teacher:big", guesses(0.9, 9))]) == []


@pytest.mark.parametrize(
    ("metric", "judging"), [("qwk_cut_points", "grade_auc"), ("referable_auc", "referable_auc"), ("mcc", "mcc")]
)
def test_grades_are_judged_by_what_chooses_on_validation(metric: str, judging: str, store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="ordinal")
    spec = tiny_spec(store, f"evaluate.metric={metric}", "evaluate.referable=1")
    (row,) = teachers_on_validation(corpus, spec, [ALONE, arm_of("teacher:big", guesses(0.9, 9))], VAL)
    assert (row["metric"], row["verdict"]) == (judging, BETTER)
