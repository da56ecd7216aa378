"""What the gate and the registry make of drift."""

from __future__ import annotations

from typing import Any

import pytest

from infra.servers.tracking import alias_of, connect
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.gate.stage import judge
from tasks.pipeline.context import Context
from tasks.register.gate_tags import DRIFT_TAG, gate_tags
from tests.tasks.drift.conftest import MIX
from tests.tasks.drift.grown import NAME, OLD, Served

# Of an untrained student, so that drift alone decides.
RULES = (
    *("gate.baselines=false", "gate.patients=1", "gate.margin=null", "gate.revision=2"),
    *("gate.recall_floor=null", "gate.sensitivity=null", "gate.specificity=null"),
)


@pytest.fixture(scope="module")
def moved(served: Served) -> Corpus:
    """New images come from another site."""
    return served.grown({**MIX, "site": lambda number: "ab"[number >= OLD]})


def judged(served: Served, drift: Manifest | None, *overrides: str, student: str = "another") -> Manifest:
    """The gate's manifest of a student that tells images apart."""
    report = served.report_of(student)
    facts = {**report.facts, "against_majority": {**report.facts["against_majority"], "one_answer": None}}
    report = report.model_copy(update={"facts": facts})
    spec = served.spec(*RULES, *overrides)
    return judge(Context(served.corpus.store), served.corpus, report, spec, None, drift).manifest


def rule(gate: Manifest) -> dict[str, Any] | None:
    return next((each for each in gate.facts["rules"] if each["rule"] == "drift"), None)


def test_drift_holds_a_student_that_passes_all_else(served: Served, moved: Corpus) -> None:
    assert judged(served, None).facts["verdict"] == "passed"
    gate = judged(served, served.drift(moved))
    assert gate.facts["verdict"] == "failed"
    assert gate.facts["why"] == (
        "drift: site mix 1 (limit 0.1) against version 1; asked for: images like those that the champion learned from "
        "(drift.hold)"
    )


def test_a_person_may_let_it_pass(served: Served, moved: Corpus) -> None:
    gate = judged(served, served.drift(moved), "drift.hold=false")
    assert (gate.facts["verdict"], rule(gate)) == ("passed", None)
    assert gate_tags(gate)[DRIFT_TAG] == "drift: site mix 1 (limit 0.1) against version 1"


def test_without_drift_the_verdict_and_its_key_are_what_they_were(served: Served) -> None:
    drift = served.drift(served.grown(MIX))
    gate = judged(served, drift, student="a third")
    found = rule(gate)
    assert found is not None
    assert found["verdict"] == "passed"
    assert gate_tags(gate)[DRIFT_TAG] == "none"
    assert judged(served, None, student="a third") == gate


def test_unknown_drift_holds_nothing(served: Served, moved: Corpus) -> None:
    drift = served.drift(moved)
    unknown = drift.model_copy(update={"facts": {**drift.facts, "verdict": "unknown"}})
    gate = judged(served, unknown, student="a fourth")
    assert (gate.facts["verdict"], rule(gate)) == ("passed", None)
    assert DRIFT_TAG not in gate_tags(gate)


def test_who_serves_already_is_not_held(served: Served, moved: Corpus) -> None:
    held = alias_of(connect(), NAME, "champion")
    assert held is not None
    gate = judged(served, served.drift(moved), student=held.tags["stillroom.student"])
    assert rule(gate) is None


def test_other_figures_of_the_same_signals_are_the_same_question(served: Served, moved: Corpus) -> None:
    drift = served.drift(moved)
    gate = judged(served, drift)
    signals = [{**each, "value": 0.5} for each in drift.facts["signals"]]
    tomorrow = drift.model_copy(update={"facts": {**drift.facts, "signals": signals, "why": "site mix 0.5"}})
    assert judged(served, tomorrow) == gate
