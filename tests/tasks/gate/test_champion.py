"""Students against the champion of a real MLflow database, on the same test images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.errors import SpecError, TransientError, UsageError
from infra.servers.prefect_api import free_port
from infra.servers.tracking import VERSIONS_LOCK, alias_of, connect, versions
from infra.settings import reload_settings
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, read_image
from tasks.evaluate.stage import evaluate
from tasks.gate.champion_predictions import FILES_TAG, STORED, NotComparableError, champion_says
from tasks.gate.opponent import champion_of
from tasks.gate.stage import GATE, GateWork, judge
from tasks.ingest.stage import INGEST
from tasks.pipeline.context import Context
from tasks.pipeline.graph import Graph
from tasks.pipeline.stage import Stage
from tasks.planning.dry_run import dry_run
from tasks.register.aliases import move_alias
from tasks.register.champion import promote, rollback
from tasks.register.stage import register
from tests.tasks.machine import own_machine
from tests.tasks.trained import fitted, tiny_spec
from tests.tiny import tiny_corpus

WHO = {"by": "Dr. Ito", "reason": "it is better"}
ALIASES = ("challenger", "champion")


@dataclass(frozen=True)
class Line:
    """A corpus of 40 test patients, a good student (0), another good one (1) and a bad one (2), with their reports."""

    corpus: Corpus
    students: list[Manifest]
    reports: list[Manifest]

    def gate(self, name: str, student: int, *overrides: str) -> Manifest:
        """The gate's manifest of one student, for one registered model."""
        return judge(
            Context(self.corpus.store), self.corpus, self.reports[student], self.spec(name, *overrides)
        ).manifest

    def registered(self, name: str, student: int, *overrides: str) -> dict[str, Any]:
        """Judged and registered: facts of the registration."""
        gate, spec = self.gate(name, student, *overrides), self.spec(name, *overrides)
        context = Context(self.corpus.store)
        found = register(context, self.reports[student], self.students[student], self.corpus, [], spec, gate)
        return found.manifest.facts

    def spec(self, name: str, *overrides: str) -> Any:
        given = (f"register.name={name}", "evaluate.baselines=false", *overrides)
        return tiny_spec(self.corpus.store, *given)

    def held(self, name: str) -> list[str]:
        """Versions that hold challenger and champion."""
        found = [alias_of(connect(), name, alias) for alias in ALIASES]
        return ["" if version is None else str(version.version) for version in found]

    def tags(self, name: str, version: str) -> dict[str, str]:
        return dict(connect().get_model_version(name, version).tags)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Line]:
    with own_machine(tmp_path_factory.mktemp("home")):
        store = LocalStore(tmp_path_factory.mktemp("champion") / "store")
        corpus = tiny_corpus(store, train=90, val=30, test=80, classes=2)
        students = [fitted(corpus, "taught", seed, wrong=wrong) for seed, wrong in ((0, 0), (1, 0), (2, 0.5))]
        spec = tiny_spec(store, "evaluate.baselines=false", "evaluate.bootstrap=200")
        context = Context(store, cluster, spec.run)
        yield Line(corpus, students, [evaluate(context, corpus, [each], spec).manifest for each in students])


@pytest.fixture(scope="module")
def served(line: Line) -> str:
    """A registered model whose only version, the good student, is champion; other tests leave it so."""
    assert line.registered("served", 0)["aliases"] == ["challenger", "champion"]
    return "served"


def ruling(gate: Manifest, rule: str = "champion") -> dict[str, str]:
    return next(each for each in gate.facts["rules"] if each["rule"] == rule)


def test_one_that_is_worse_moves_no_alias_and_the_rule_is_named(line: Line) -> None:
    line.registered("worse", 0)
    facts = line.registered("worse", 2)
    assert (facts["aliases"], facts["gate"]) == ([], "failed")
    assert line.held("worse") == ["1", "1"]
    tags = line.tags("worse", facts["version"])
    assert tags["stillroom.gate"] == "failed"
    assert tags["stillroom.gate_why"].startswith("champion: macro_f1 0.")
    assert "the 95 % interval of new - champion begins above -0.02 (gate.margin)" in tags["stillroom.gate_why"]


def test_one_that_is_better_becomes_challenger_and_a_person_promotes_it(line: Line) -> None:
    line.registered("better", 2)
    facts = line.registered("better", 0, "register.promote=by_hand")
    assert facts["aliases"] == ["challenger"]
    assert line.held("better") == ["2", "1"]
    promote("better", "2", **WHO)
    assert line.held("better") == ["2", "2"]
    rollback("better", **WHO)
    assert line.held("better") == ["2", "1"]


def test_one_that_is_better_becomes_champion_by_itself_where_the_spec_says_so(line: Line) -> None:
    line.registered("automatic", 2)
    facts = line.registered("automatic", 0)
    assert (facts["verdict"], line.held("automatic")) == ("champion", ["2", "2"])
    assert facts["reason"] == "it passed every rule of the gate, beside version 1"


def test_the_comparison_is_told_with_its_interval(line: Line, served: str) -> None:
    gate = line.gate(served, 2)
    found = gate.facts["champion"]
    metric = line.reports[0].facts["arms"]["taught"]["per_seed"][0]["macro_f1"]
    assert (found["version"], found["same"], found["seen"], found["champion"]) == ("1", False, STORED, metric)
    assert found["difference"]["value"] == pytest.approx(found["new"] - found["champion"], abs=2e-6)
    low, high = found["difference"]["interval"]
    assert low < found["difference"]["value"] < high < 0
    assert ruling(gate)["verdict"] == "failed"


def test_one_that_is_as_good_passes_by_the_margin_alone(line: Line, served: str) -> None:
    assert ruling(line.gate(served, 1, "gate.margin=0.2", "gate.revision=2"))["verdict"] == "passed"


def test_too_few_patients_leave_it_unjudged(line: Line) -> None:
    asked = "gate.patients=41"
    assert line.registered("few", 0, asked)["aliases"] == []
    assert line.tags("few", "1")["stillroom.gate_why"].startswith("patients: 40 test patients; asked for: at least 41")


def test_the_champion_itself_has_nothing_to_be_compared_with(line: Line, served: str) -> None:
    gate = line.gate(served, 0, "gate.cases=29", "gate.revision=2")
    assert (gate.facts["champion"]["same"], gate.facts["champion"]["difference"]) == (True, None)
    assert ruling(gate)["figure"] == "version 1 is this student: nothing to compare"
    assert gate.facts["verdict"] == "passed"


def test_the_same_run_finds_its_verdict_and_its_version_after_its_student_was_promoted(line: Line) -> None:
    line.registered("again", 2)
    first = line.registered("again", 0)
    context, spec = Context(line.corpus.store), line.spec("again")
    found = judge(context, line.corpus, line.reports[0], spec)
    assert found.cached
    args = (context, line.reports[0], line.students[0], line.corpus, [], spec, found.manifest)
    assert register(*args).cached
    assert len(versions(connect(), "again")) == 2
    assert first["aliases"] == ["challenger", "champion"]


def test_another_champion_is_another_question(line: Line) -> None:
    line.registered("moved", 2)
    before = line.gate("moved", 1)
    line.registered("moved", 0)
    after = line.gate("moved", 1)
    assert before.key != after.key
    assert (before.facts["champion"]["version"], after.facts["champion"]["version"]) == ("1", "2")


def test_a_champion_that_moved_since_the_gate_judged_stays(line: Line) -> None:
    line.registered("raced", 2)
    gate = line.gate("raced", 0)
    client = connect()
    first = alias_of(client, "raced", "champion")
    other = client.create_model_version("raced", source=first.source)
    with VERSIONS_LOCK:
        move_alias(client, "raced", "champion", other, first, **WHO)
    spec = line.spec("raced")
    facts = register(
        Context(line.corpus.store), line.reports[0], line.students[0], line.corpus, [], spec, gate
    ).manifest.facts
    assert (facts["verdict"], line.held("raced")) == ("challenger", ["3", "2"])
    assert "the champion is version 2 by now, and the gate compared with version 1" in facts["reason"]


def test_a_rule_that_changed_in_silence_is_an_error_until_the_revision_is_raised(line: Line, served: str) -> None:
    with pytest.raises(
        SpecError, match=r"was judged by: gate\.ece: null -> 0\.9; gate\.patients: 30 -> 20\. Take that"
    ):
        line.gate(served, 1, "gate.patients=20", "gate.ece=0.9")
    assert line.gate(served, 1, "gate.patients=20", "gate.ece=0.9", "gate.revision=2").facts["asked"]["revision"] == 2
    with pytest.raises(SpecError, match=r"set gate\.revision: 2 \(the champion has 1\)"):
        line.gate(served, 1, "gate.enabled=false")


def test_versions_carry_the_gate_and_the_test_set(line: Line, served: str) -> None:
    tags, gate = line.tags(served, "1"), line.gate(served, 0)
    asked = json.loads(tags["stillroom.gate_rules"])
    assert asked["rules"]["gate.patients"] == 30
    assert asked["digest"] == gate.facts["asked"]["digest"]
    assert (tags["stillroom.gate_revision"], tags["stillroom.gate_against"]) == ("1", "")
    assert tags["stillroom.test_set"] == gate.facts["test"]["digest"]


def test_a_champion_of_other_classes_cannot_be_compared(line: Line, served: str) -> None:
    facts = {**line.corpus.manifest.facts, "classes": ["class-0", "class-9"]}
    other = Corpus(line.corpus.store, line.corpus.manifest.model_copy(update={"facts": facts}))
    with pytest.raises(NotComparableError, match="knows class-0, class-1, this corpus has class-0, class-9; promote"):
        said(line, served, other)


def test_classes_in_another_order_are_told_apart_by_name(line: Line, served: str) -> None:
    facts = {**line.corpus.manifest.facts, "classes": ["class-1", "class-0"]}
    other = Corpus(line.corpus.store, line.corpus.manifest.model_copy(update={"facts": facts}))
    assert np.array_equal(said(line, served, other), said(line, served, line.corpus)[:, ::-1])


def test_a_champion_that_stores_images_otherwise_needs_the_source_files(line: Line, served: str) -> None:
    ingest = {**line.corpus.manifest.section["ingest"], "size": 32}
    manifest = line.corpus.manifest.model_copy(update={"section": {"ingest": ingest}})
    with pytest.raises(NotComparableError, match=r"stored in another way.*corpus\.root cannot be read any more"):
        said(line, served, Corpus(line.corpus.store, manifest))


def test_a_champion_that_stores_images_otherwise_prepares_the_source_files_itself(
    line: Line, served: str, tmp_path: Path
) -> None:
    for shard in line.corpus.of_split("test"):
        for row, key in enumerate(shard.keys):
            (tmp_path / f"{key}.png").write_bytes(read_image(line.corpus.store, shard, row))
    ingest = {**line.corpus.manifest.section["ingest"], "size": 32}
    manifest = line.corpus.manifest.model_copy(update={"section": {"ingest": ingest}})
    other, root = Corpus(line.corpus.store, manifest), f"corpus.root={tmp_path}"
    assert np.allclose(said(line, served, other, root), said(line, served, line.corpus), atol=1e-6)
    (tmp_path / "test-0003.png").unlink()
    with pytest.raises(NotComparableError, match="source file of test image test-0003 is not there as it was ingested"):
        said(line, served, other, root)


def test_files_that_are_not_those_that_were_registered_are_not_run(line: Line, served: str) -> None:
    client = connect()
    client.set_model_version_tag(served, "1", FILES_TAG, json.dumps({"MLmodel": {"sha256": "0" * 64, "bytes": 1}}))
    try:
        with pytest.raises(NotComparableError, match="MLmodel of version 1 is not the file that was registered"):
            said(line, served, line.corpus)
    finally:
        client.delete_model_version_tag(served, "1", FILES_TAG)


def test_a_champion_whose_files_are_gone_leaves_the_student_unjudged(line: Line, tmp_path: Path) -> None:
    client = connect()
    client.create_registered_model("gone")
    version = client.create_model_version("gone", source=str(tmp_path / "nowhere"))
    client.set_registered_model_alias("gone", "champion", version.version)
    found = ruling(line.gate("gone", 0))
    assert (found["verdict"], found["figure"][:37]) == ("not judged", "the files of version 1 are gone; roll")


def said(line: Line, name: str, corpus: Corpus, *overrides: str) -> np.ndarray:
    """What the champion says of the test images of a corpus."""
    champion = champion_of(name, "")
    assert champion is not None
    keys = [str(key) for shard in corpus.of_split("test") for key in shard.keys]
    sections = line.spec(name, *overrides).each_corpus
    return champion_says(Context(corpus.store), champion, corpus, keys, sections).prob


def test_grades_are_compared_by_the_cut_points_that_each_ships(line: Line, store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, train=90, val=30, test=60, task="ordinal", title="grades")
    students = [fitted(corpus, "taught", 0), fitted(corpus, "taught", 2, wrong=0.6)]
    given = ("evaluate.baselines=false", "evaluate.referable=1", "evaluate.bootstrap=100")
    rules = ("evaluate.referable=1", "gate.sensitivity=0.1", "gate.specificity=0.1")
    context = Context(store, cluster, tiny_spec(store).run)
    reports = [evaluate(context, corpus, [each], tiny_spec(store, *given)).manifest for each in students]
    graded = Line(corpus, students, reports)
    assert graded.registered("graded", 0, *rules)["verdict"] == "champion"
    found = graded.gate("graded", 1, *rules)
    told, metric = found.facts["champion"], "qwk_cut_points"
    values = [report.facts["arms"]["taught"]["per_seed"][0][metric] for report in reports]
    assert told["metric"] == metric
    assert [told["champion"], told["new"]] == pytest.approx(values, abs=1e-6)
    assert found.facts["operating_point"]["unit"] == "patient"
    assert ruling(found, "sensitivity")["figure"].endswith("by patient")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Names another registry, until the test ends."""

    def name(uri: str) -> None:
        monkeypatch.setenv("STILLROOM_MLFLOW_URI", uri)
        reload_settings()

    yield name
    monkeypatch.undo()
    reload_settings()


def test_a_registry_that_is_down_fails_as_transient(line: Line, elsewhere: Callable[[str], None]) -> None:
    elsewhere(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError):
        line.gate("down", 0)


def test_a_plan_goes_on_without_a_registry(line: Line, elsewhere: Callable[[str], None]) -> None:
    class Known:
        """A step whose manifest the store has."""

        def lookup(self) -> Manifest:
            return line.reports[0]

    elsewhere(f"http://127.0.0.1:{free_port()}")
    graph = Graph()
    corpus = graph.add(INGEST, "ingest", "ingest")
    report = graph.add(Stage("evaluate", lambda *_, **__: Known()), "evaluate", "evaluate", inputs={"corpus": corpus})
    export = graph.add(Stage("export", lambda *_, **__: Known()), "export", "export", inputs={"corpus": corpus})
    graph.add(GATE, "gate", "gate", inputs={"corpus": corpus, "report": report, "export": export})
    found = dry_run(line.spec("planned"), line.corpus.store, graph.steps, [line.corpus.manifest])
    assert {name: state.state for name, state in found.items()} == {
        "ingest": "cached",
        "evaluate": "cached",
        "export": "cached",
        "gate": "to do",
    }


def test_a_registry_that_was_never_used_has_no_champion_and_is_not_made(
    line: Line, elsewhere: Callable[[str], None], tmp_path: Path
) -> None:
    elsewhere(f"sqlite:///{tmp_path}/mlflow.db")
    assert GateWork(Context(line.corpus.store), line.corpus, line.reports[0], line.spec("new")).champion is None
    assert not (tmp_path / "mlflow.db").exists()


def test_a_report_without_a_student_is_refused(line: Line) -> None:
    report = line.reports[0].model_copy(update={"facts": {**line.reports[0].facts, "best": None}})
    with pytest.raises(UsageError, match="has no student to register"):
        GateWork(Context(line.corpus.store), line.corpus, report, line.spec("none"))
