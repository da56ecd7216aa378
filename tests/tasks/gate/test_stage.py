"""The gate as a stage of the line, and what the registry does with its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.servers.tracking import alias_of, connect, versions
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.gate.stage import GateWork, judge
from tasks.pipeline.context import Context
from tasks.register.stage import register
from tests.tasks.gate.reports import report_facts
from tests.tasks.machine import own_machine
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine with its own MLflow database."""
    with own_machine(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="module")
def line(
    home: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster
) -> tuple[Corpus, list[Manifest], Manifest]:
    """A corpus, a student and its report on eight test patients."""
    store = LocalStore(tmp_path_factory.mktemp("gate") / "store")
    corpus = tiny_corpus(store, val=8, test=16, size=70)
    models = [trained(corpus, "taught", 0)]
    spec = tiny_spec(store)
    return corpus, models, evaluate(Context(store, cluster, spec.run), corpus, models, spec).manifest


def better(report: Manifest) -> Manifest:
    """The report as it would be of a student that is better than the baselines: that of the fixture is not trained."""
    found = report_facts()
    facts = {name: found[name] for name in ("against_majority", "against_baselines")}
    return report.model_copy(update={"key": "b" * 64, "facts": {**report.facts, **facts}})


def gate_of(line: Any, *, good: bool = False, **section: Any) -> Manifest:
    corpus, _, report = line
    report = better(report) if good else report
    spec = tiny_spec(corpus.store, *(f"gate.{name}={value}" for name, value in section.items()))
    return judge(Context(corpus.store), corpus, report, spec).manifest


def registered(line: Any, gate: Manifest, name: str, **policy: str) -> Manifest:
    corpus, models, report = line
    overrides = [f"register.name={name}", *(f"register.{key}={value}" for key, value in policy.items())]
    spec = tiny_spec(corpus.store, *overrides)
    return register(Context(corpus.store), report, models, corpus, [], spec, gate).manifest


def test_a_student_that_gives_one_answer_is_registered_without_alias(line: Any) -> None:
    gate = gate_of(line, patients=1)
    assert gate.facts["verdict"] == "failed"
    assert gate.facts["why"].startswith("defined: it gives every test image the class ")
    made = registered(line, gate, "constant")
    assert (made.facts["aliases"], made.facts["verdict"]) == ([], "")
    assert alias_of(connect(), "constant", "challenger") is None


def test_a_student_that_cannot_be_judged_is_registered_with_the_reason(line: Any) -> None:
    gate = gate_of(line, good=True)
    made = registered(line, gate, "few")
    client = connect()
    assert made.facts["reason"].startswith("the gate is closed: patients: 8 test patients; asked for: at least 30")
    assert [alias_of(client, "few", alias) for alias in ("challenger", "champion")] == [None, None]
    (version,) = versions(client, "few")
    assert version.tags["stillroom.gate"] == "not judged"
    assert "at least 30" in version.tags["stillroom.gate_why"]


def test_a_closed_gate_leaves_the_aliases_of_an_earlier_version(line: Any) -> None:
    before = registered(line, gate_of(line, enabled="false"), "kept")
    assert before.facts["aliases"] == ["challenger", "champion"]
    after = registered(line, gate_of(line, ece=0.0, patients=1), "kept")
    assert after.facts["version"] != before.facts["version"]
    held = {alias: str(alias_of(connect(), "kept", alias).version) for alias in ("challenger", "champion")}
    assert held == dict.fromkeys(("challenger", "champion"), before.facts["version"])


def test_an_open_gate_lets_the_policy_decide(line: Any) -> None:
    gate = gate_of(line, good=True, patients=1)
    assert gate.facts["verdict"] == "passed", gate.facts["why"]
    made = registered(line, gate, "open", promote="by_hand")
    assert made.facts["aliases"] == ["challenger"]
    assert made.facts["gate"] == "passed"


def test_what_the_gate_said_once_is_found_again(line: Any) -> None:
    corpus, _, report = line
    assert not judge(Context(corpus.store), corpus, report, tiny_spec(corpus.store, "gate.patients=7")).cached
    assert judge(Context(corpus.store), corpus, report, tiny_spec(corpus.store, "gate.patients=7")).cached


def test_the_table_for_people_names_every_rule(line: Any) -> None:
    corpus, _, report = line
    work = GateWork(Context(corpus.store), corpus, report, tiny_spec(corpus.store, "gate.patients=9"))
    result = judge(Context(corpus.store), corpus, report, tiny_spec(corpus.store, "gate.patients=9"))
    (artifact,) = work.artifacts(result, 0.0)
    assert isinstance(artifact.content, list)
    assert [row["rule"] for row in artifact.content] == [rule["rule"] for rule in result.manifest.facts["rules"]]
