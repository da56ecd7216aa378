"""Curves, tables and the worst errors against independent computations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from tasks.data.decisions import decided
from tasks.report.curves import calibration, ranking
from tasks.report.predictions import PredictionTable
from tasks.report.tables import confused, per_class
from tasks.report.worst import worst_errors
from tests.tasks.report.conftest import JudgedLine


def test_curves_of_each_class_are_those_of_scikit_learn(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    table = PredictionTable(line.corpus.store, line.report)
    found, own = ranking(table, None), line.content().test
    assert found is not None
    for roc, recall in zip(found.roc, found.recall, strict=True):
        place = line.report.facts["classes"].index(roc.name)
        truth, score = own.label == place, own.prob[:, place]
        x, y, _ = roc_curve(truth, score, drop_intermediate=False)
        np.testing.assert_allclose((roc.x, roc.y), (x, y))
        assert roc.area == pytest.approx(roc_auc_score(truth, score))
        assert recall.area == pytest.approx(average_precision_score(truth, score))
        precision, share, _ = precision_recall_curve(truth, score)
        drawn = set(zip(np.round(recall.x, 9), np.round(recall.y, 9), strict=True))
        known = set(zip(np.round(share, 9), np.round(precision, 9), strict=True))
        # Both begin without recall: scikit-learn with precision 1, the picture with that of its highest score.
        assert known - drawn <= {(0.0, 1.0)}
        assert drawn - known <= {(0.0, round(float(recall.y[1]), 9))}


def test_labels_that_nobody_knows_count_for_no_curve(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("multilabel")
    table = PredictionTable(line.corpus.store, line.report)
    own = line.content().test
    assert own.labels is not None
    found = ranking(table, None)
    assert found is not None
    first = line.report.facts["classes"].index(found.roc[0].name)
    known = own.labels[:, first] >= 0
    assert found.roc[0].area == pytest.approx(roc_auc_score(own.labels[known, first], own.prob[known, first]))


def test_referral_is_one_question_to_every_arm_with_its_operating_point(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("ordinal")
    table = PredictionTable(line.corpus.store, line.report)
    found = ranking(table, {"threshold": 0.5})
    assert found is not None
    assert found.question == "class-2 or worse (referable)"
    assert [curve.name for curve in found.roc[:3]] == ["student, taught", "same student, labels alone", "teacher big"]
    best = line.report.facts["best"]
    row = line.report.facts["arms"]["taught"]
    own = row["per_seed"][row["seeds"].index(best["seed"])]
    assert found.roc[0].area == pytest.approx(own["referable_auc"], abs=1e-6)
    assert found.point is not None
    alarms, sensitivity, _ = found.point
    # The operating point lies on the student's own curve.
    assert min(abs(found.roc[0].x - alarms) + abs(found.roc[0].y - sensitivity)) == pytest.approx(0)


def test_one_temperature_of_a_graded_corpus_is_the_one_that_is_registered(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("ordinal")
    best = line.report.facts["best"]
    reading = next(r for r in line.report.facts["grades"]["readings"]["taught"] if r["seed"] == best["seed"])
    found = calibration(PredictionTable(line.corpus.store, line.report))
    assert found.temperature == pytest.approx(reading["temperature"], rel=2e-3)


@pytest.mark.parametrize("task", ["single", "ordinal", "multilabel"])
def test_the_first_calibration_error_is_that_of_the_report(task: str, judged: Callable[[str], JudgedLine]) -> None:
    line = judged(task)
    best, row = line.report.facts["best"], line.report.facts["arms"]["taught"]
    found = calibration(PredictionTable(line.corpus.store, line.report))
    reported = row["per_seed"][row["seeds"].index(best["seed"])]["ece"]
    if task == "multilabel":
        # The report's is a mean over labels, that of the curve pools them.
        assert 0 <= found.errors[0] <= 1
    else:
        assert found.errors[0] == pytest.approx(reported, abs=1e-6)


@pytest.mark.parametrize("task", ["single", "ordinal"])
def test_the_confusion_matrix_counts_decisions(task: str, judged: Callable[[str], JudgedLine]) -> None:
    line = judged(task)
    content = line.content()
    said = decided(line.report.facts, content.test.prob)
    found = confused(line.report.facts, content.test)
    assert sum(map(sum, found.cells)) == len(content.test)
    assert sum(found.cells[n][n] for n in range(len(found.rows))) == int((said == content.test.label).sum())
    recall = [row[2] for row in per_class(line.report.facts, found).rows]
    for place, text in enumerate(recall):
        truth = content.test.label == place
        assert text == f"{(said[truth] == place).mean():.3f}"


def test_the_worst_errors_of_grades_are_the_farthest(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("ordinal")
    content, names = line.content(), line.report.facts["classes"]
    found, count = worst_errors(line.corpus, line.report.facts, content.test)
    said = decided(line.report.facts, content.test.prob)
    far = np.abs(said - content.test.label)
    assert count == int((far > 0).sum())
    shown = [abs(names.index(mistake.said) - names.index(mistake.truth)) for mistake in found]
    assert shown == sorted(far[far > 0].tolist(), reverse=True)[: len(found)]


def test_the_worst_errors_of_labels_name_the_label(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("multilabel")
    content = line.content()
    found, _ = worst_errors(line.corpus, line.report.facts, content.test)
    rows = {key: row for row, key in enumerate(content.test.keys)}
    assert content.test.labels is not None
    for mistake in found:
        name = mistake.said.removeprefix("no ")
        place = line.report.facts["classes"].index(name)
        there = content.test.labels[rows[mistake.key], place] == 1
        assert mistake.truth == (name if there else f"no {name}")
        assert (mistake.probability >= 0.5) != there
