"""Figures of a study: paired differences, corrected p values, tables that can be read again."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from tasks.study.design import Cell, Condition, Contrast, Study
from tasks.study.figures import StudyFigures, figures_of, holm, study_metric
from tasks.study.measures import Measures, nearness, over_fitting
from tasks.study.predictions import Said, StudyPredictions
from tasks.study.tables import folds_markdown, table_csv, table_markdown, table_tex

CELLS = [Cell("all", name) for name in ("better", "same", "labels")]
STUDY = Study(
    kind="unlabeled",
    paper="none",
    claim="",
    conditions=[Condition("all", "all 100 % of it", {}, {})],
    titles={"better": "better_one", "same": "same", "labels": "labels alone"},
    primary=Contrast(CELLS[0], CELLS[2]),
    contrasts=[Contrast(CELLS[1], CELLS[2])],
)


def predictions(patients: int = 120) -> StudyPredictions:
    """Two classes; `better` is right at 95 of 100 images, the others at 70."""
    rng = np.random.Generator(np.random.PCG64(3))
    label = rng.integers(2, size=patients)

    def prob(right: float, seed: int) -> np.ndarray:
        own = np.random.Generator(np.random.PCG64(seed))
        said = np.where(own.random(patients) < right, label, 1 - label)
        return np.stack([1 - said, said], axis=1) * 0.8 + 0.1

    cells = {
        CELLS[0]: Said((0, 1), (prob(0.95, 10), prob(0.95, 11)), 51_800),
        CELLS[1]: Said((0, 1), (prob(0.7, 20), prob(0.7, 21)), 51_800),
        CELLS[2]: Said((0, 1), (prob(0.7, 20), prob(0.7, 31)), 51_800),
        Cell("all", "majority"): Said((0,), (np.full((patients, 2), 0.5),), None),
    }
    keys = np.array([f"k{n:03d}" for n in range(patients)])
    return StudyPredictions("single", ["no", "yes"], keys, label, None, keys, cells)


@pytest.fixture(scope="module")
def figures() -> StudyFigures:
    return figures_of(STUDY, predictions(), metric="macro_f1", resamples=400, bins=15)


def test_an_arm_that_is_better_has_an_interval_above_zero(figures: StudyFigures) -> None:
    found = figures.primary
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.p == pytest.approx(2 / 401, abs=1e-6)


def test_an_arm_that_is_alike_has_an_interval_around_zero(figures: StudyFigures) -> None:
    (found,) = figures.contrasts
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]


def test_a_difference_that_could_have_been_seen_is_told(figures: StudyFigures) -> None:
    found = figures.primary
    assert found.interval is not None
    assert found.visible == pytest.approx((found.interval[1] - found.interval[0]) / 2 * 2.8 / 1.96, abs=1e-5)


def test_rows_are_students_as_listed_then_what_needs_no_medicine(figures: StudyFigures) -> None:
    assert [row.arm for row in figures.rows] == ["better", "same", "labels", "majority"]


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, None, 0.9], [1.0, None, 1.0]),
        ([], []),
    ],
)
def test_p_values_are_corrected_as_holm_does(given: list[float | None], want: list[float | None]) -> None:
    assert holm(given) == pytest.approx(want) if None not in given else holm(given) == want


def test_the_csv_has_every_figure(figures: StudyFigures) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(STUDY, figures).decode())))
    first = rows[0]
    assert (first["arm"], first["baseline"], first["parameters"]) == ("better", "labels", "51800")
    assert float(first["macro_f1"]) == figures.rows[0].values["macro_f1"]
    assert rows[-1]["difference"] == ""


def test_tex_escapes_names(figures: StudyFigures) -> None:
    assert rb"all 100 \% of it & better\_one & 51800 & -- & -- &" in table_tex(STUDY, figures)


def test_the_table_marks_the_primary_contrast(figures: StudyFigures) -> None:
    (line,) = [line for line in table_markdown(STUDY, figures, ("mcc",)).splitlines() if "better_one" in line]
    assert "(primary)" in line
    assert "(labels alone)" in line


@pytest.mark.parametrize(
    ("task", "asked", "found"),
    [("single", None, "macro_f1"), ("single", "mcc", "mcc"), ("ordinal", "qwk_cut_points", "grade_auc")],
)
def test_the_metric_is_one_that_needs_no_fit(task: str, asked: str | None, found: str) -> None:
    assert study_metric(task, asked) == found


def folded() -> StudyPredictions:
    """The same of three folds, of which the first has the corpus's own test images."""
    found = predictions()
    fold = np.arange(len(found.keys)) % 3
    return replace(found, fold=fold, own_test=fold == 0)


@pytest.fixture(scope="module")
def joined() -> StudyFigures:
    return figures_of(STUDY, folded(), metric="macro_f1", resamples=400, bins=15)


def test_folds_see_smaller_differences_than_one_test_set(joined: StudyFigures) -> None:
    assert (joined.folds, joined.own_images) == (3, 40)
    assert joined.visible_own is not None
    assert joined.primary.visible is not None
    assert joined.visible_own > 1.3 * joined.primary.visible


def test_each_fold_has_its_figures_and_their_mean(joined: StudyFigures) -> None:
    each = [fold["macro_f1"] for fold in joined.rows[0].per_fold]
    assert len(each) == 3
    line = next(line for line in folds_markdown(STUDY, joined, ()).splitlines() if "better_one" in line)
    assert line.endswith(f"| {np.mean(each):.3f} |")  # type: ignore[arg-type]


def test_without_folds_nothing_is_said_of_them(figures: StudyFigures) -> None:
    assert (figures.folds, figures.visible_own, folds_markdown(STUDY, figures, ())) == (1, None, "")


def test_over_fitting_is_how_much_better_training_images_are() -> None:
    found = predictions()
    right = np.eye(2)[found.label]
    train = [[(right, found.label, None)], [(right, found.label, None)]]
    told = over_fitting(found, "macro_f1", train, found.cells[CELLS[2]].prob, 15)
    assert told["train"] == 1.0
    assert told["gap"] == pytest.approx(0.3, abs=0.06)
    assert told["gap_interval"][0] < told["gap"] < told["gap_interval"][1]


def test_a_student_that_says_what_its_teacher_says_is_near_it() -> None:
    found = predictions()
    said = found.cells[CELLS[0]].prob
    teacher = dict(zip(found.keys.tolist(), said[0], strict=True))
    near, far = (nearness("single", found, prob, teacher) for prob in (said[:1], found.cells[CELLS[2]].prob[:1]))
    assert (near["teacher_kl"], near["teacher_r2"]) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert far["teacher_kl"] > 0.1


def test_the_table_has_what_a_network_costs() -> None:
    measures = {CELLS[0]: Measures(bytes=212_345, latency_ms=1.234, teacher_kl=0.05, teacher_r2=0.9)}
    found = figures_of(STUDY, predictions(), metric="macro_f1", resamples=50, bins=15, measures=measures)
    line = next(line for line in table_markdown(STUDY, found, ()).splitlines() if "better_one" in line)
    assert line.endswith("| 212 | 1.23 | 0.050 | 0.900 |")
    assert rb"& 51800 & 212 & 1.23 &" in table_tex(STUDY, found)
