"""Registration in a real MLflow on SQLite, and a consumer that has nothing of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from infra.compute.cluster import Cluster
from infra.errors import PermanentError, UsageError
from infra.servers.tracking import FLOW_RUN_TAG, TRAINING_TAG, alias_of, connect, experiment, tracking_uri, versions
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from models.augmentation.rendering import decode
from tasks.data.corpus import Corpus, read_image
from tasks.distill.curves import Curves
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tasks.register.aliases import moves
from tasks.register.stage import Registration, register
from tasks.register.versions import KEY_TAG
from tasks.spec import Spec
from tests.tasks.machine import own_machine
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine with its own MLflow database."""
    with own_machine(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="module")
def line(
    home: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster
) -> tuple[Corpus, list[Manifest], Manifest]:
    """A corpus, two students and their report."""
    store = LocalStore(tmp_path_factory.mktemp("register") / "store")
    corpus = tiny_corpus(store, val=8, test=16, size=70)
    models = [trained(corpus, "taught", 0), trained(corpus, "taught", 1), trained(corpus, "labels_only", 0)]
    return (
        corpus,
        models,
        evaluate(Context(store, cluster, tiny_spec(store).run), corpus, models, tiny_spec(store)).manifest,
    )


@pytest.fixture(scope="module")
def first(line: tuple[Corpus, list[Manifest], Manifest]) -> Manifest:
    """The first registration, as tiny-student."""
    corpus, models, report = line
    return register(Context(corpus.store), report, models, corpus, [models[2]], tiny_spec(corpus.store)).manifest


def _again(line: Any, *overrides: str, models: list[Manifest] | None = None, report: Manifest | None = None) -> Any:
    corpus, own, made = line
    spec = tiny_spec(corpus.store, *overrides)
    return register(Context(corpus.store), report or made, models or own, corpus, [], spec)


def test_the_best_student_becomes_challenger_and_first_champion(line: Any, first: Manifest) -> None:
    assert first.facts["aliases"] == ["challenger", "champion"]
    assert (first.facts["verdict"], first.facts["reason"]) == ("champion", "there was no champion")
    held = alias_of(connect(), "tiny-student", "challenger")
    assert held.tags["stillroom.student"] == line[2].facts["best"]["key"]


def test_tags_lead_back_to_every_manifest(line: Any, first: Manifest) -> None:
    corpus, models, report = line
    tags = alias_of(connect(), "tiny-student", "champion").tags
    assert tags["stillroom.manifest.ingest"] == corpus.manifest.digest
    assert tags["stillroom.manifest.evaluate"] == report.digest
    assert tags["stillroom.manifest.distill"] in {m.digest for m in models[:2]}
    assert tags["stillroom.version.evaluate"] == str(report.version)
    assert float(tags["stillroom.parity"]) <= 1e-5
    assert tags["stillroom.parity_sources"] == "not compared: corpus.root cannot be read any more"
    assert tags["stillroom.patient_leakage"] == "checked"


def test_tags_say_what_the_student_is_worth(line: Any, first: Manifest) -> None:
    tags, facts = alias_of(connect(), "tiny-student", "champion").tags, line[2].facts
    assert tags["stillroom.headline"].startswith(facts["headline"][0])
    assert tags["stillroom.better_than_majority"] == ("yes" if facts["against_majority"]["better"] else "no")
    assert tags["stillroom.gap_closed"] == facts["gap_closed"]["reason"]


def test_the_run_holds_params_curve_figures_files_and_data(line: Any, first: Manifest) -> None:
    client = connect()
    run = client.get_run(first.facts["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["student.model"] == "micro_xs"
    assert [m.step for m in client.get_metric_history(first.facts["run_id"], "loss")] == [10, 20, 30]
    facts, seed = line[2].facts, line[2].facts["best"]["seed"]
    assert run.data.metrics["test_accuracy"] == facts["arms"]["taught"]["per_seed"][seed]["accuracy"]
    names = {Path(f.path).suffix for f in client.list_artifacts(first.facts["run_id"], "report")}
    assert names == {".md", ".json", ".png"}
    data = run.inputs.dataset_inputs[0].dataset
    assert (data.name, data.digest) == ("tiny", line[0].manifest.digest[:32])
    assert len(run.outputs.model_outputs) == 1


def test_no_path_of_this_machine_reaches_the_run(line: Any, first: Manifest) -> None:
    run = connect().get_run(first.facts["run_id"])
    values = [*run.data.params.values(), *run.data.tags.values()]
    assert not [v for v in values if line[0].store.url in v or "/nowhere" in v or str(ROOT) in v]


def test_a_second_call_is_cached(line: Any, first: Manifest) -> None:
    again = _again(line)
    assert again.cached
    assert again.manifest == first
    assert len(versions(connect(), "tiny-student")) == 1


CONSUMER = """
import sys
import numpy as np
root = {root!r}
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", repr(f))]
sys.path[:] = [p for p in sys.path if p and not p.startswith("__editable__") and p != root]
for name in ("tasks", "models", "infra", "flows"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " can be imported")
import mlflow
mlflow.set_tracking_uri({uri!r})
model = mlflow.pyfunc.load_model("models:/tiny-student@challenger")
image = np.load({image!r})
def shares(found):
    assert found["error"].isna().all(), found
    return np.array([list(each.values()) for each in found["probabilities"]], dtype=np.float32)
one, two = shares(model.predict(image)), shares(model.predict(np.stack([image, image[:, ::-1]])))
assert one.shape == (1, 3) and two.shape == (2, 3), (one.shape, two.shape)
assert np.allclose(one[0], two[0], atol=1e-5)
data = open({file!r}, "rb").read()
assert np.allclose(shares(model.predict([data])), one, atol=1e-5)
assert np.allclose(shares(model.predict(data)), one, atol=1e-5)
assert model.metadata.metadata["classes"] == ["class-0", "class-1", "class-2"]
np.save({out!r}, two)
"""


def test_a_process_without_this_repository_predicts_on_a_raw_image(line: Any, first: Manifest, tmp_path: Path) -> None:
    corpus, _, _ = line
    shard = corpus.of_split("test")[0]
    (tmp_path / "image.png").write_bytes(read_image(corpus.store, shard, 0))
    np.save(tmp_path / "image.npy", decode(read_image(corpus.store, shard, 0)))
    places = {"image": tmp_path / "image.npy", "file": tmp_path / "image.png", "out": tmp_path / "out.npy"}
    code = CONSUMER.format(root=str(ROOT), uri=tracking_uri(), **{name: str(path) for name, path in places.items()})
    env = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    prob = np.load(tmp_path / "out.npy")
    assert prob.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert prob.dtype == np.float32


def test_a_crash_before_the_alias_is_repaired_without_a_new_version(line: Any) -> None:
    made = _again(line, "register.name=crashed").manifest
    client = connect()
    # What a crash between version and alias leaves: no alias, no manifest.
    for alias in ("challenger", "champion"):
        client.delete_registered_model_alias("crashed", alias)
    line[0].store.delete(made.name)
    again = _again(line, "register.name=crashed")
    assert not again.cached
    assert again.manifest == made
    assert [v.version for v in versions(client, "crashed")] == [1]
    assert alias_of(client, "crashed", "challenger").version == 1


def test_two_that_register_at_once_make_one_version(line: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: _again(line, "register.name=at-once"), range(2)))
    assert [each.manifest.facts["version"] for each in made] == ["1", "1"]
    assert len(versions(connect(), "at-once")) == 1


def test_a_version_that_is_gone_is_registered_again(line: Any) -> None:
    made = _again(line, "register.name=gone").manifest
    client = connect()
    client.delete_registered_model("gone")
    again = _again(line, "register.name=gone")
    assert not again.cached
    # The run is the training's, not the registration's.
    assert again.manifest.facts["run_id"] == made.facts["run_id"]
    assert alias_of(client, "gone", "challenger") is not None


def test_by_hand_the_first_version_too_is_a_challenger_alone(line: Any) -> None:
    corpus, models, report = line
    spec = tiny_spec(corpus.store, "register.name=two", "register.promote=by_hand")
    for number, model in enumerate(models[:2], 1):
        facts = register(Context(corpus.store), report, model, corpus, [], spec).manifest.facts
        assert (facts["aliases"], facts["verdict"]) == (["challenger"], "challenger")
        assert facts["reason"] == "register.promote is by_hand: a person promotes"
        assert alias_of(connect(), "two", "challenger").version == number
    told = moves(connect(), "two", "challenger")
    assert [(move.version, move.before, move.by) for move in told] == [
        ("1", "", "register.promote: by_hand"),
        ("2", "1", "register.promote: by_hand"),
    ]


def test_a_student_that_answers_otherwise_is_refused(line: Any, cluster: Cluster, store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=4, test=6)
    student = trained(corpus, "taught")
    report = evaluate(Context(store, cluster, tiny_spec(store).run), corpus, [student], tiny_spec(store)).manifest
    other = trained(corpus, "taught", lean=3.0)
    false = student.model_copy(update={"outputs": [other.output(kind="model"), student.output(kind="history")]})
    spec = tiny_spec(store, "register.name=liar", "name=liar-line")
    with pytest.raises(PermanentError, match=r"differs by .* on test image test-"):
        register(Context(corpus.store), report, false, corpus, [], spec)
    client = connect()
    runs = client.search_runs([experiment(client, "liar-line")])
    assert [run.info.status for run in runs] == ["FAILED"]
    assert versions(client, "liar") == []


def packed_of(name: str) -> Path:
    """Folder of the challenger's model."""
    return Path(alias_of(connect(), name, "challenger").source.removeprefix("file://"))


def metadata_of(folder: Path) -> dict[str, Any]:
    """What a packed model tells beside its code."""
    return dict(yaml.safe_load((folder / "MLmodel").read_text())["metadata"])


def test_a_graded_student_tells_how_its_probabilities_are_read(home: Path, store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, val=9, test=6, task="ordinal")
    student = trained(corpus, "taught")
    report = evaluate(
        Context(store, cluster, tiny_spec(store).run), corpus, [student], tiny_spec(store, "evaluate.referable=1")
    ).manifest
    register(Context(corpus.store), report, student, corpus, [], tiny_spec(store, "register.name=graded"))
    folder = packed_of("graded")
    about, metadata = (json.loads(next(folder.rglob("about.json")).read_text()), metadata_of(folder))
    reading = {"referable": 1, **report.facts["grades"]["readings"]["taught"][0]}
    for found in (about, metadata):
        assert {name: found[name] for name in ("cut_points", "temperature", "referable")}.items() <= reading.items()
    assert "number of cut_points at or below" in metadata["grades"]


def test_a_student_of_classes_without_order_has_no_cut_points(line: Any, first: Manifest) -> None:
    metadata = metadata_of(packed_of("tiny-student"))
    assert not {"cut_points", "temperature", "referable", "grades"} & set(metadata)


def test_a_student_of_classes_without_order_has_its_shift(line: Any, first: Manifest) -> None:
    facts, folder = line[2].facts, packed_of("tiny-student")
    seed = facts["best"]["seed"]
    own = next(each for each in facts["decisions"]["readings"]["taught"] if each["seed"] == seed)
    for found in (metadata_of(folder), json.loads(next(folder.rglob("about.json")).read_text())):
        assert (found["decide_for"], found["logit_shift"]) == ("macro_f1", own["logit_shift"])
    assert "argmax of log p + logit_shift" in metadata_of(folder)["decision"]


def test_registering_prints_nothing(line: Any, capfd: pytest.CaptureFixture[str]) -> None:
    _again(line, "register.name=silent")
    assert capfd.readouterr() == ("", "")


def test_no_taught_student_says_so(line: Any) -> None:
    with pytest.raises(UsageError, match="names no best student among the 1 models"):
        _again(line, models=[line[1][2]])


def test_a_run_that_a_dead_process_left_is_closed(line: Any) -> None:
    corpus, models, report = line
    spec = tiny_spec(corpus.store, "register.name=dead", "name=dead-line")
    student = next(m for m in models if m.key == report.facts["best"]["key"])
    client = connect()
    left = client.create_run(
        experiment(client, "dead-line"),
        tags={KEY_TAG: Registration(Context(corpus.store), report, student, corpus, [], spec).key},
    )
    register(Context(corpus.store), report, models, corpus, [], spec)
    assert client.get_run(left.info.run_id).info.status == "KILLED"


@pytest.fixture
def tracked(line: Any, request: pytest.FixtureRequest) -> tuple[Spec, Manifest, str]:
    """A spec with an experiment of its own, the best student, and the MLflow run that its training left there."""
    corpus, models, report = line
    spec = tiny_spec(corpus.store, f"name={request.node.name}")
    student = next(m for m in models if m.key == report.facts["best"]["key"])
    params, tags = {"model": "micro_xs", "lr": "0.1"}, {"stillroom.stage": "distill"}
    curves = Curves(spec.name, student.key, "student", tags=tags, params=params, message=pytest.fail, flow_run="flow-1")
    curves.add({"points": [{"step": step, "loss": 1 / step} for step in (1, 2, 3)], "logs": [], "lines": []})
    curves.close("FINISHED")
    client = connect()
    (run,) = client.search_runs([experiment(client, spec.name)], f"tags.`{TRAINING_TAG}` = '{student.key}'")
    return spec, student, run.info.run_id


def test_a_version_is_of_the_run_that_trained_the_student(line: Any, tracked: Any) -> None:
    corpus, _, report = line
    spec, student, run_id = tracked
    facts = register(Context(corpus.store, run_id="flow-1"), report, student, corpus, [], spec).manifest.facts
    client = connect()
    assert facts["run_id"] == alias_of(client, spec.name, "champion").run_id == run_id
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == [1, 2, 3]
    assert {"model": "micro_xs", "student.model": "micro_xs"}.items() <= run.data.params.items()
    assert run.data.tags[KEY_TAG] == Registration(Context(corpus.store), report, student, corpus, [], spec).key
    assert "test_accuracy" in run.data.metrics
    assert client.list_artifacts(run_id, "report")
    # The training and its parent, nothing else.
    assert len(client.search_runs([experiment(client, spec.name)])) == 2


def test_a_second_registration_in_the_same_run_repeats_nothing(line: Any, tracked: Any) -> None:
    corpus, _, report = line
    spec, student, run_id = tracked
    for name in ("one", "other"):
        own = tiny_spec(corpus.store, f"name={spec.name}", f"register.name={spec.name}-{name}")
        assert register(Context(corpus.store), report, student, corpus, [], own).manifest.facts["run_id"] == run_id
    client = connect()
    run = client.get_run(run_id)
    assert len(client.get_metric_history(run_id, "test_accuracy")) == 1
    assert len(run.inputs.dataset_inputs) == 1
    assert run.data.params["register.name"] == f"{spec.name}-one"


def test_a_run_that_is_gone_is_made_again_with_its_curve(line: Any, tracked: Any) -> None:
    corpus, _, report = line
    spec, student, run_id = tracked
    client = connect()
    client.delete_run(run_id)
    facts = register(Context(corpus.store, run_id="flow-2"), report, student, corpus, [], spec).manifest.facts
    assert facts["run_id"] != run_id
    run = client.get_run(facts["run_id"])
    assert [m.step for m in client.get_metric_history(facts["run_id"], "loss")] == [10, 20, 30]
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.data.tags[FLOW_RUN_TAG], parent.info.status) == ("flow-2", "FINISHED")


def test_a_refused_student_leaves_its_training_finished(
    line: Any, tracked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, _, report = line
    spec, student, run_id = tracked
    monkeypatch.setattr("tasks.register.parity.TOLERANCE", -1.0)
    with pytest.raises(PermanentError, match="differs by"):
        register(Context(corpus.store), report, student, corpus, [], spec)
    assert connect().get_run(run_id).info.status == "FINISHED"
    assert versions(connect(), spec.name) == []
    monkeypatch.undo()
    assert register(Context(corpus.store), report, student, corpus, [], spec).manifest.facts["run_id"] == run_id
