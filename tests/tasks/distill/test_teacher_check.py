"""Teachers beside the student on labels alone: what is said, when the run stops, and what waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from flows.line import line
from infra.errors import PermanentError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.distill.teacher_check import TeacherCheck
from tasks.pipeline.context import Context
from tasks.pipeline.stage import run_stage
from tasks.spec import Spec, parse_spec


def spec_of(store: LocalStore, *overrides: str) -> Spec:
    text = f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
teachers: [{{name: t, model: micro_xs, train: {{steps: 12}}}}]
student: {{model: micro_xs, seeds: [0, 1]}}
"""
    return parse_spec(text, overrides=overrides)


REQUIRED = "teachers.0.require_better=true"


def trained(store: LocalStore, stage: str, arm: str, **best: float) -> Manifest:
    """A training that says of itself what the test chooses."""
    facts: dict[str, Any] = {"arm": arm, "task": "single", "best": best}
    manifest = Manifest(stage=stage, version=1, key=f"{arm}-{sorted(best.items())}", inputs=[], section={}, outputs=[])
    return StageCache(store).commit(manifest.model_copy(update={"facts": facts}))


def check(store: LocalStore, spec: Spec, teacher: float, students: list[float], said: list[str]) -> dict[str, Any]:
    work = TeacherCheck(
        Context(store, message=said.append),
        [trained(store, "teach", "teacher:t", val_macro_f1=teacher)],
        [trained(store, "distill", "labels_only", val_macro_f1=value, val_nll=1.0) for value in students],
        spec,
    )
    return run_stage(work).manifest.facts


def test_a_better_teacher_is_said_to_be_so(store: LocalStore) -> None:
    said: list[str] = []
    facts = check(store, spec_of(store, REQUIRED), 0.8, [0.5, 0.7], said)
    assert facts["teachers"] == {"t": {"value": 0.8, "better": True}}
    assert facts["student"] == pytest.approx(0.6)
    assert said == [
        "teacher t is better than the student on labels alone: macro_f1 0.800 against 0.600 (mean of 2 seeds) "
        "on validation"
    ]


def test_a_teacher_that_is_no_better_is_told_again_by_every_run(store: LocalStore) -> None:
    said: list[str] = []
    for _ in range(2):
        check(store, spec_of(store), 0.6, [0.6], said)
    assert len(said) == 2
    assert said[0].startswith("teacher t is NO better than the student on labels alone: macro_f1 0.600")


def test_the_run_stops_where_the_spec_asks_for_it(store: LocalStore) -> None:
    check(store, spec_of(store), 0.6, [0.6], [])
    with pytest.raises(PermanentError, match=r"t is NO better .* 0\.600 against 0\.600 .*`require_better` is set"):
        check(store, spec_of(store, REQUIRED), 0.6, [0.6], [])


def test_a_metric_where_less_is_better(store: LocalStore) -> None:
    spec = spec_of(store, "evaluate.metric=nll")
    work = TeacherCheck(
        Context(store),
        [trained(store, "teach", "teacher:t", val_nll=0.4)],
        [trained(store, "distill", "labels_only", val_nll=0.5)],
        spec,
    )
    assert run_stage(work).manifest.facts["teachers"]["t"]["better"] is True


def test_what_was_not_validated_is_not_better(store: LocalStore) -> None:
    teacher, student = trained(store, "teach", "teacher:t"), trained(store, "distill", "labels_only", val_macro_f1=0.5)
    said: list[str] = []
    context = Context(store, message=said.append)
    run_stage(TeacherCheck(context, [teacher], [student], spec_of(store)))
    assert said == ["teacher t: no macro_f1 on validation is known of it or of the student on labels alone"]
    with pytest.raises(PermanentError, match="no macro_f1 on validation is known"):
        run_stage(TeacherCheck(context, [teacher], [student], spec_of(store, REQUIRED)))


def waits_for(spec: Spec, title: str) -> set[str]:
    """Titles of all that a step waits for."""
    graph = line(spec)
    found, pending = set[str](), [step for step in graph.steps if step.title == title]
    while pending:
        for step in pending.pop().waits_for:
            found.add(step.title)
            pending.append(step)
    return found


def test_labelling_waits_for_the_check_only_where_it_may_stop_the_run(store: LocalStore) -> None:
    alone = {"distill labels_only seed 0", "distill labels_only seed 1", "compare"}
    assert not alone & waits_for(spec_of(store), "label t")
    assert alone <= waits_for(spec_of(store, REQUIRED), "label t")
    assert alone <= waits_for(spec_of(store), "evaluate")


@pytest.mark.parametrize("override", ["evaluate.compare=false", "teachers.0.train=null"])
def test_where_there_is_nothing_to_compare_there_is_no_check(override: str, store: LocalStore) -> None:
    assert "compare" not in [step.title for step in line(spec_of(store, override)).steps]
