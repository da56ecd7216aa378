"""Metrics against scikit-learn, by hand, and under weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from models.statistics.counts import confusion, matthews, quadratic_kappa, weighted_auc
from models.statistics.metrics import (
    FIT_FREE,
    assess,
    main_metric,
    metrics,
    names,
    per_class,
    probabilities,
    reliability,
    selecting_metric,
    weighted,
)


def _problem(n: int = 200, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    prob = rng.dirichlet(np.ones(classes), n) + 0.3 * np.eye(classes)[label]
    # Rounding makes ties, which AUC must count half.
    prob = np.round(prob / prob.sum(axis=1, keepdims=True), 2)
    return prob / prob.sum(axis=1, keepdims=True), label


def _many(n: int = 150, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(-1, 2, (n, classes)).astype(np.int8)
    return np.round(np.clip(rng.random((n, classes)) * 0.7 + 0.3 * (labels == 1), 0, 1), 2), labels


def test_single_metrics_equal_scikit_learn() -> None:
    prob, label = _problem()
    predicted = prob.argmax(axis=1)
    ours = metrics("ordinal", prob, label)
    theirs = {
        "accuracy": sk.accuracy_score(label, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(label, predicted),
        "macro_f1": sk.f1_score(label, predicted, average="macro"),
        "micro_f1": sk.f1_score(label, predicted, average="micro"),
        "mcc": sk.matthews_corrcoef(label, predicted),
        "qwk": sk.cohen_kappa_score(label, predicted, weights="quadratic"),
        "auc": sk.roc_auc_score(label, prob, multi_class="ovr", average="macro"),
        "nll": sk.log_loss(label, prob, labels=range(5)),
    }
    assert {k: ours[k] for k in theirs} == pytest.approx(theirs, abs=1e-12)


def test_multilabel_metrics_equal_scikit_learn_label_by_label() -> None:
    prob, labels = _many()
    ours = metrics("multilabel", prob, np.full(len(prob), -1), labels)
    columns = [(labels[k, c], prob[k, c]) for c in range(4) for k in [labels[:, c] >= 0]]
    truth, p = (np.concatenate([c[i] for c in columns]) for i in (0, 1))
    assert ours["macro_f1"] == pytest.approx(np.mean([sk.f1_score(t, q >= 0.5) for t, q in columns]))
    assert ours["auc"] == pytest.approx(np.mean([sk.roc_auc_score(t, q) for t, q in columns]))
    assert ours["mcc"] == pytest.approx(np.mean([sk.matthews_corrcoef(t, q >= 0.5) for t, q in columns]))
    assert ours["micro_f1"] == pytest.approx(sk.f1_score(truth, p >= 0.5))
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, p >= 0.5))
    assert ours["nll"] == pytest.approx(sk.log_loss(truth, np.clip(p, 1e-12, 1)), abs=1e-9)


@pytest.mark.parametrize("task", ["ordinal", "multilabel"])
def test_integer_weights_are_repeated_images(task: str) -> None:
    prob, labels = _many()
    label = np.random.default_rng(1).integers(0, 4, len(prob))
    if task == "ordinal":
        prob = (prob + 0.01) / (prob + 0.01).sum(axis=1, keepdims=True)
    count = np.random.default_rng(2).integers(0, 4, len(prob))
    again = np.repeat(np.arange(len(prob)), count)
    by_weight = weighted(task, prob, label, labels, count[:, None].astype(float))
    by_rows = metrics(task, prob[again], label[again], labels[again])
    assert {k: v[0] for k, v in by_weight.items()} == pytest.approx(by_rows)


def test_ece_by_hand() -> None:
    prob = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    # Bin of 0.9: half right, gap 0.4. Bin of 0.6: all right, gap 0.4.
    assert metrics("single", prob, np.array([0, 1, 1, 1]), bins=10)["ece"] == pytest.approx(0.4)


def test_calibrated_probabilities_have_small_ece() -> None:
    p = np.random.default_rng(0).random(20000)
    label = (np.random.default_rng(1).random(20000) < p).astype(int)
    assert metrics("single", np.stack([1 - p, p], axis=1), label)["ece"] < 0.02


def test_unlabelled_rows_do_not_count() -> None:
    prob, label = _problem()
    holes = label.copy()
    holes[::3] = -1
    assert metrics("single", prob, holes) == metrics("single", prob[holes >= 0], label[holes >= 0])


def test_a_class_in_neither_labels_nor_predictions_is_left_out_of_macro_f1() -> None:
    prob = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert metrics("single", prob, np.array([0, 1]))["macro_f1"] == 1.0
    assert [row["f1"] for row in per_class("single", prob, np.array([0, 1]))] == [1.0, 1.0, None]


def test_undefined_is_none_with_a_reason() -> None:
    found = assess("ordinal", np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert (found.values["auc"], found.values["mcc"], found.values["qwk"]) == (None, None, None)
    assert found.undefined["auc"] == "no class has both positives and negatives"
    assert set(found.undefined) == {"auc", "mcc", "qwk", "grade_auc"}


def test_constant_predictions_have_no_correlation_and_no_kappa() -> None:
    prob = np.tile([0.2, 0.5, 0.3], (6, 1))
    found = metrics("ordinal", prob, np.array([0, 0, 1, 1, 2, 2]))
    assert (found["mcc"], found["qwk"], found["auc"]) == (0.0, 0.0, 0.5)


def test_qwk_punishes_far_mistakes_more() -> None:
    near, far = np.array([0, 1, 2, 3, 3]), np.array([0, 1, 2, 3, 0])
    one = np.ones((5, 1))
    truth = np.array([0, 1, 2, 3, 2])
    kappa = [quadratic_kappa(confusion(truth, predicted, 4, one))[0] for predicted in (near, far)]
    assert kappa[0] > kappa[1]


def test_many_weights_at_once_equal_one_at_a_time() -> None:
    prob, label = _problem(60, 3)
    weights = np.random.default_rng(5).integers(0, 3, (60, 7)).astype(float)
    together = weighted("ordinal", prob, label, None, weights)
    for r in range(7):
        alone = weighted("ordinal", prob, label, None, weights[:, r : r + 1])
        assert {k: v[r] for k, v in together.items()} == pytest.approx({k: v[0] for k, v in alone.items()})


def test_auc_of_an_empty_side_is_undefined() -> None:
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    value = weighted_auc(np.array([0.9, 0.1]), np.array([True, False]), weights)
    assert value[0] == 1.0
    assert np.isnan(value[1])


def test_matthews_of_one_class_of_labels_is_undefined() -> None:
    assert np.isnan(matthews(np.array([[[3.0, 1.0], [0.0, 0.0]]]))[0])


def test_per_class_numbers_equal_scikit_learn() -> None:
    prob, label = _problem()
    precision, recall, f1, n = sk.precision_recall_fscore_support(label, prob.argmax(axis=1))
    rows = per_class("single", prob, label)
    assert [r["recall"] for r in rows] == pytest.approx(list(recall))
    assert [r["precision"] for r in rows] == pytest.approx(list(precision))
    assert [r["f1"] for r in rows] == pytest.approx(list(f1))
    assert [r["n"] for r in rows] == list(n)


def test_reliability_counts_every_image_once() -> None:
    prob, label = _problem()
    count, confidence, right = reliability("single", prob, label, bins=10)
    assert count.sum() == len(prob)
    filled = count > 0
    assert (count[filled] * right[filled]).sum() == (prob.argmax(axis=1) == label).sum()
    assert np.isnan(confidence[~filled]).all()


@pytest.mark.parametrize(
    ("task", "prob", "label", "text"),
    [
        ("grades", np.ones((1, 2)), np.zeros(1, int), "one of single, ordinal, multilabel"),
        ("single", np.array([[0.5, np.nan]]), np.zeros(1, int), "row 0 is not finite"),
        ("single", np.ones((2, 2)), np.array([-1, -1]), "no row has a known label"),
        ("single", np.ones((1, 2)), np.array([2]), "does not fit"),
        ("multilabel", np.ones((1, 2)), np.array([-1]), "must be like prob"),
    ],
)
def test_wrong_input_says_what_is_wrong(task: str, prob: np.ndarray, label: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        metrics(task, prob, label)


@pytest.mark.parametrize("task", ["single", "ordinal", "multilabel"])
def test_names_are_the_keys(task: str) -> None:
    prob, labels = _many()
    assert list(metrics(task, prob, np.zeros(len(prob), int), labels)) == names(task)


def test_probabilities_of_huge_logits_are_numbers() -> None:
    logits = np.array([[1000.0, -1000.0], [0.0, np.log(3.0)]])
    assert probabilities("single", logits) == pytest.approx(np.array([[1, 0], [0.25, 0.75]]))
    assert probabilities("multilabel", logits) == pytest.approx(np.array([[1, 0], [0.5, 0.75]]))


def test_grade_auc_counts_a_pair_as_often_as_grades_lie_between() -> None:
    # Expected grades 0.2, 0.1, 1.9 of grades 0, 1, 2: pair (0, 1) wrong, (1, 2) right, (0, 2) right and twice as heavy.
    prob = np.array([[0.8, 0.2, 0.0], [0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    assert metrics("ordinal", prob, np.array([0, 1, 2]))["grade_auc"] == pytest.approx(3 / 4)


def test_grade_auc_sees_a_student_that_never_says_a_grade_above_0() -> None:
    label = np.arange(90) % 3
    worse = 0.1 + 0.1 * label
    prob = np.stack([1 - worse, worse / 2, worse / 2], axis=1)
    found = metrics("ordinal", prob, label)
    assert (found["qwk"], found["grade_auc"]) == (0.0, 1.0)


def test_grade_auc_of_two_grades_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 80)
    prob = rng.dirichlet(np.ones(2), 80)
    found = metrics("ordinal", prob, label)
    assert found["grade_auc"] == pytest.approx(sk.roc_auc_score(label, prob[:, 1]))


@pytest.mark.parametrize("task", ["single", "ordinal", "multilabel"])
def test_what_chooses_on_validation_needs_no_fit_there(task: str) -> None:
    assert selecting_metric(main_metric(task)) in names(task)
    assert FIT_FREE[task] in names(task)
