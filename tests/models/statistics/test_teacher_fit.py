"""How closely a student follows its teachers: against formulas written out here."""

from __future__ import annotations

import numpy as np
import pytest

from models.statistics.teacher_fit import teacher_fit

TASKS = ("single", "ordinal", "multilabel")


def logits(seed: int, rows: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, (rows, 4))


def probabilities(task: str, z: np.ndarray) -> np.ndarray:
    raised = np.exp(z)
    return raised / (1 + raised) if task == "multilabel" else raised / raised.sum(1, keepdims=True)


@pytest.mark.parametrize("task", TASKS)
def test_a_student_like_its_teachers_leaves_nothing(task: str) -> None:
    z = logits(1)
    found = teacher_fit(task, probabilities(task, z), z)
    assert found["kl"] == pytest.approx(0, abs=1e-9)
    assert found["r2"] == pytest.approx(1)
    assert found["constant_kl"] > 0.05


def test_a_constant_student_explains_nothing() -> None:
    p = probabilities("single", logits(2))
    found = teacher_fit("single", p, np.tile(np.log(p.mean(0)), (len(p), 1)))
    assert found["kl"] == pytest.approx(found["constant_kl"])
    assert found["r2"] == pytest.approx(0)


def test_classes_go_by_the_divergence_of_softmax() -> None:
    p, z = probabilities("single", logits(3)), logits(4)
    q = probabilities("single", z)
    assert teacher_fit("single", p, z)["kl"] == pytest.approx(
        np.mean([(a * np.log(a / b)).sum() for a, b in zip(p, q, strict=True)])
    )


def binary(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))))


def test_findings_go_by_binary_divergences() -> None:
    p, z = probabilities("multilabel", logits(5)), logits(6)
    assert teacher_fit("multilabel", p, z)["kl"] == pytest.approx(binary(p, probabilities("multilabel", z)))


def test_grades_go_by_thresholds() -> None:
    p, z = probabilities("ordinal", logits(7)), logits(8)
    q = probabilities("ordinal", z)
    worse = [np.stack([x[:, k + 1 :].sum(1) for k in range(3)], axis=1) for x in (p, q)]
    found = teacher_fit("ordinal", p, z)
    assert found["kl"] == pytest.approx(binary(*worse))
    spread = np.square(worse[0] - worse[0].mean(0)).sum()
    assert found["r2"] == pytest.approx(1 - np.square(worse[0] - worse[1]).sum() / spread)


def test_teachers_that_do_not_vary_leave_no_share() -> None:
    same = np.full((5, 2), 0.5)
    assert np.isnan(teacher_fit("single", same, logits(9, 5)[:, :2])["r2"])


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="one image at least"):
        teacher_fit("single", np.zeros((0, 3)), np.zeros((0, 3)))
