"""Images that networks predict: none is counted twice, and none is left out."""

from __future__ import annotations

from infra.storage.store import LocalStore
from tasks.planning.predictions import Predicted, predictions
from tasks.spec import Spec, parse_spec

IN_SPLIT = {"train": 1000, "val": 10, "test": 100}


def spec_of(store: LocalStore, *overrides: str) -> Spec:
    text = f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
teachers:
  - {{name: t, model: micro_xs, members: 2, average: 4, train: {{steps: 12}}}}
  - {{name: as-it-is, model: micro_xs}}
student: {{model: micro_xs, seeds: [0, 1, 2]}}
"""
    return parse_spec(text, overrides=overrides)


def counted(spec: Spec, *, compares: bool) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for each in predictions(spec, IN_SPLIT, compares=compares):
        before = found.get(each.name, (0, 0))
        found[each.name] = (before[0] + each.check, before[1] + each.report)
    return found


def test_every_view_of_every_member_counts(store: LocalStore) -> None:
    found = counted(spec_of(store), compares=True)
    assert (found["t-1"], found["t-2"]) == ((5 * 10, 5 * 100),) * 2
    assert "as-it-is" not in found


def test_of_the_students_those_on_labels_alone_are_compared(store: LocalStore) -> None:
    assert counted(spec_of(store), compares=True)[""] == (3 * 10, 3 * (100 + 10 + 100))


def test_without_a_comparison_the_report_predicts_all(store: LocalStore) -> None:
    spec = spec_of(store)
    with_one, without = counted(spec, compares=True), counted(spec, compares=False)
    assert {name: (0, sum(own)) for name, own in with_one.items()} == without


def test_an_arm_of_another_network_counts_under_its_own(store: LocalStore) -> None:
    spec = spec_of(store, "student.arms={wide: {model: micro}}")
    (wide,) = [each for each in predictions(spec, IN_SPLIT, compares=True) if each.name == "student:wide"]
    assert wide == Predicted("student:wide", spec.student.of("wide"), 0, 3 * 110)
