"""`stillroom plan`: what it says, and that it leaves no trace."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.line import line
from infra.compute.cluster import Cluster
from infra.digest import canonical_json
from infra.errors import CorpusError, UsageError
from infra.storage.store import LocalStore
from models.engines.benchmark import EngineChoice
from models.networks.build import build
from tasks.data.corpus import Corpus
from tasks.distill.stage import distill, teach
from tasks.ingest.stage import ingest
from tasks.label import label, teacher_handle
from tasks.pipeline.context import Context
from tasks.pipeline.rates import INGEST, LABEL, STEP, remember_rate, remembered_rate
from tasks.planning import costs
from tasks.planning.engine_rate import chosen_engine_rate
from tasks.planning.plan import plan_run, render_plan
from tasks.select import select
from tasks.spec import Spec, parse_spec
from tasks.spec.run import LabelRunSection
from tests.tasks.corpora.layouts import csv
from tests.tasks.proposal.folders import images, tree

SPEC = """
name: small
store: store
corpus:
  adapter: table
  root: corpus
  table: {csv: labels.csv, image: file, label: label, patient: patient}
ingest: {size: 24, shard_size: 16}
views: {size: 32, count: 2}
teachers: [{name: big, model: micro_xs, train: {steps: 4, batch: 4}}]
student: {model: micro_xs, train: {epochs: 2, batch: 4}}
evaluate: {bootstrap: 10}
run: {device: cpu, cluster: {workers: 2}}
"""


def corpus_at(root: Path) -> Path:
    """40 labelled images of 20 patients, 8 of the pool, three of them bad, two rows without an image."""
    names = images(root, [f"{i:02d}.png" for i in range(48)])
    rows = [f"{n},{'ab'[i // 2 % 2]},p{i // 2}" for i, n in enumerate(names[:40])]
    csv(root / "labels.csv", "file,label,patient", [*rows, "gone1,a,p90", "gone2,b,p91"])
    (root / "45.png").write_bytes(b"")
    (root / "46.png").write_bytes((root / "46.png").read_bytes()[:60])
    (root / "47.png").write_text("no image")
    return root


def plan_of(spec: Spec) -> dict[str, Any]:
    """What the command prints for the spec's line."""
    return plan_run(spec, line(spec).steps)


def spec_at(folder: Path, *overrides: str) -> Spec:
    return parse_spec(SPEC, overrides=overrides, base=folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    corpus_at(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def traces(place: Path) -> tuple[dict[str, str], dict[str, Any], dict[str, str]]:
    """The tree before, the plan, the tree after."""
    before = tree(place)
    return before, plan_of(spec_at(place)), tree(place)


@pytest.fixture(scope="module")
def plan(traces: tuple[dict[str, str], dict[str, Any], dict[str, str]]) -> dict[str, Any]:
    return traces[1]


def states(plan: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["state"] for stage in plan["stages"]}


def test_nothing_is_written(traces: tuple[dict[str, str], dict[str, Any], dict[str, str]]) -> None:
    assert traces[0] == traces[2]


def test_it_is_one_json_document(plan: dict[str, Any]) -> None:
    assert json.loads(json.dumps(plan, allow_nan=False)) == plan


def test_images_and_labels_are_counted(plan: dict[str, Any]) -> None:
    labelled = {split: sum(own.values()) for split, own in plan["counts"].items()}
    assert sum(labelled.values()) == 40
    assert sum(plan["images"].values()) == 48
    assert (plan["unlabelled"], plan["missing"], plan["leaks"], plan["patients"]) == (8, 2, 0, 20)
    assert sum(plan["prior"].values()) == pytest.approx(1, abs=1e-3)


def test_leaks_of_unknown_patients_are_said_to_be_unchecked(plan: dict[str, Any]) -> None:
    assert plan["without_patient"] == {"images": 48, "unknown": 8}
    text = "leaks: none seen; patient leakage cannot be checked for 8 of 48 images, whose patient is not known"
    assert text in render_plan(plan)


def test_bad_files_are_found(plan: dict[str, Any]) -> None:
    sample = plan["sample"]
    assert (sample["empty_files"], sample["unreadable"], sample["expected_unreadable"]) == (1, 2, 3)
    assert not any(name in reason for reason in sample["reasons"] for name in ("45", "46", "47"))


def test_bytes_and_minutes_are_told(plan: dict[str, Any]) -> None:
    assert plan["bytes"]["shards"] > 48 * 1536
    assert set(states(plan).values()) == {"to do"}
    assert all(stage["minutes"] > 0 for stage in plan["stages"])


def test_steps_of_trainings_are_told(place: Path) -> None:
    found = plan_of(spec_at(place, "student.train={epochs: 1, min_steps: 77, batch: 4}"))
    assert {stage["stage"]: stage["steps"] for stage in found["stages"] if stage["steps"]} == {
        "teach big": 4,
        "distill taught seed 0": 77,
        "distill labels_only seed 0": 77,
    }
    assert re.search(r"^  distill taught seed 0 .* 77 steps$", render_plan(found), re.MULTILINE)


def test_a_line_that_ends_before_the_labels_stores_none(place: Path) -> None:
    spec = spec_at(place)
    plan = plan_run(spec, line(spec).up_to("teach"))
    assert plan["bytes"]["soft_labels"] == 0


def test_a_loss_on_one_teacher_is_planned(place: Path) -> None:
    spec = spec_at(place, "student.loss=[{loss: cross_entropy}, {loss: kl, teacher: big}]")
    plan = plan_run(spec, line(spec).up_to("distill"))
    minutes = {stage["stage"]: stage["minutes"] for stage in plan["stages"]}
    assert minutes["distill taught seed 0"] > 0


def test_labelling_is_told_at_several_numbers_of_views(plan: dict[str, Any]) -> None:
    train, other = plan["images"]["train"], plan["images"]["val"] + plan["images"]["test"]
    labels = plan["labels"]
    assert [(row["teacher"], row["views"]) for row in labels] == [("big", count) for count in (1, 2, 4, 16)]
    assert [row["answers"] for row in labels] == [train * (1 + count) + other for count in (1, 2, 4, 16)]
    # Two logits and a flag an answer; a header a file.
    assert [row["bytes"] - 5 * row["answers"] for row in labels] == [
        pytest.approx(row["files"] * 136, abs=row["files"] * 24) for row in labels
    ]
    assert plan["bytes"]["soft_labels"] == labels[1]["bytes"]
    rate = plan["rates"]["big_label_images_per_second"]
    assert [row["hours"] * 3600 * rate for row in labels] == [pytest.approx(row["answers"], rel=0.01) for row in labels]


def test_a_rate_of_the_reference_engine_is_noted(plan: dict[str, Any]) -> None:
    assert any(note.startswith("label times of big are of the reference engine") for note in plan["notes"])


def test_rates_of_earlier_runs_take_the_place_of_measuring(
    place: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {INGEST: 77.0, LABEL: 1e6, STEP: 0.125}

    def after_a_run(kind: str, details: dict[str, Any]) -> float | None:
        remember_rate(kind, details, values[kind])
        return remembered_rate(kind, details)

    monkeypatch.setattr(costs, "remembered_rate", after_a_run)
    monkeypatch.delattr(costs, "step_seconds")
    found = plan_of(spec_at(place))
    rates = found["rates"]
    assert (rates["ingest_images_per_second"], rates["big_step_seconds"], rates["student_step_seconds"]) == (
        77.0,
        0.125,
        0.125,
    )
    (note,) = (note for note in found["notes"] if note.startswith("rates of earlier runs"))
    for title in ("ingest", "labels of big", "training steps of big", "training steps of the student"):
        assert title in note
    assert not any("reference engine" in note for note in found["notes"])


def test_the_engine_that_labelling_chose_has_a_rate(store: LocalStore) -> None:
    teacher, kind = "a" * 64, "some processor, 2 threads"

    def put(name: str, choice: EngineChoice, on: str = kind) -> None:
        record = {"kind": on, "passes": 9, "choice": choice.to_json()}
        store.put(f"engines/{teacher[:16]}-{name}.json", canonical_json(record))

    def rate(**how: Any) -> float | None:
        return chosen_engine_rate(store, teacher, LabelRunSection(**how), kind)

    assert rate() is None
    put("1", EngineChoice("eager-float32", 8, 5.0), on="another processor")
    store.put(f"engines/{teacher[:16]}-2.json", b"damaged")
    put("3", EngineChoice("eager-float32", 8))
    assert rate() is None
    put("4", EngineChoice("openvino-bfloat16", 16, 120.0))
    assert (rate(), rate(engine="openvino"), rate(precision="bfloat16"), rate(batch=16)) == (120.0,) * 4
    assert (rate(engine="eager"), rate(precision="float32"), rate(batch=8)) == (None, None, None)
    assert chosen_engine_rate(store, "b" * 64, LabelRunSection(), kind) is None


@pytest.fixture(scope="module")
def rich(place: Path) -> dict[str, Any]:
    """The same with partners, features and fold teachers."""
    return plan_of(spec_at(place, "views.mix=mixup", "teachers.0.features=pooled", "teachers.0.folds=2"))


def test_partners_and_features_are_counted(rich: dict[str, Any], plan: dict[str, Any]) -> None:
    width = build("micro_xs", num_classes=2, size=32).module.num_features
    for row, plain in zip(rich["labels"], plan["labels"], strict=True):
        assert (row["files"], row["answers"]) == (plain["files"], plain["answers"])
        stored = 2 * width * row["answers"] + 4 * plan["images"]["train"] * row["views"]
        assert 0 < row["bytes"] - plain["bytes"] - stored < 200 * row["files"]


def test_features_that_a_network_has_not_are_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="features nowhere"):
        plan_of(spec_at(place, "teachers.0.features=nowhere"))


def test_fold_teachers_are_planned_too(rich: dict[str, Any], plan: dict[str, Any]) -> None:
    minutes = {stage["stage"]: stage["minutes"] for stage in rich["stages"]}
    assert minutes.keys() - states(plan).keys() == {"teach big without fold 1 of 2", "teach big without fold 2 of 2"}
    assert all(value > 0 for value in minutes.values())


def test_phases_and_arms_are_planned_too(place: Path, plan: dict[str, Any]) -> None:
    arms = (
        "{two_phase: {phases: [{name: transfer, labels: false, train: {steps: 40}}, "
        "{name: fine-tune, loss: [{loss: cross_entropy}], train: {epochs: 1}}]}, wide: {model: micro}}"
    )
    minutes = {s["stage"]: s["minutes"] for s in plan_of(spec_at(place, f"student.arms={arms}"))["stages"]}
    assert minutes.keys() - states(plan).keys() == {
        "distill two_phase transfer seed 0",
        "distill two_phase fine-tune seed 0",
        "distill wide seed 0",
    }
    assert minutes["distill two_phase transfer seed 0"] > minutes["distill two_phase fine-tune seed 0"] > 0


def test_the_text_is_short_and_says_what_it_is(plan: dict[str, Any]) -> None:
    text = render_plan(plan)
    assert len(text.splitlines()) <= 60
    assert "Nothing was written." in text
    assert "about" in text
    assert "label rows without an image: 2" in text
    assert re.search(r"^  labels +1 views +2 views +4 views +16 views$", text, re.MULTILINE)
    assert re.search(r"^  big( +[0-9.]+ kB, [0-9]+ s){4}$", text, re.MULTILINE)


def test_what_the_cached_report_says_first_is_shown(plan: dict[str, Any]) -> None:
    assert "last time:" not in render_plan(plan)
    assert "last time: No gap to close." in render_plan({**plan, "last_time": ["No gap to close."]})


def test_many_classes_and_stages_still_fit(plan: dict[str, Any]) -> None:
    names = [f"class {i}" for i in range(40)]
    stages = [{**plan["stages"][0], "stage": f"distill taught seed {i}"} for i in range(30)]
    many = {
        **plan,
        "classes": names,
        "counts": {split: dict.fromkeys(names, 7) for split in ("train", "val", "test")},
        "prior": dict.fromkeys(names, 1 / 40),
        "stages": stages,
        "notes": [f"note {i}" for i in range(30)],
        "last_time": [f"sentence {i}" for i in range(30)],
    }
    assert len(render_plan(many).splitlines()) <= 60


def test_patients_in_two_official_splits_are_told(tmp_path: Path) -> None:
    names = images(tmp_path / "corpus", [f"{i:02d}.png" for i in range(60)])
    rows = [f"{n},{'ab'[i % 2]},p{i // 4},{('train', 'test')[i >= 46]}" for i, n in enumerate(names)]
    csv(tmp_path / "corpus" / "labels.csv", "file,label,patient,split", rows)
    found = plan_of(spec_at(tmp_path, "corpus.table.split=split"))
    assert (found["official"], found["leaks"]) == (["test", "train"], 2)


def test_what_is_made_is_cached(tmp_path: Path, cluster: Cluster) -> None:
    corpus_at(tmp_path / "corpus")
    spec, store = spec_at(tmp_path, "ingest.max_bad=9"), LocalStore(tmp_path / "store")
    context = Context(store, cluster, spec.run)
    corpus = Corpus(store, ingest(context, spec).manifest)
    trained = teach(context, corpus, spec.teachers[0], spec).manifest
    handle = teacher_handle(spec.teachers[0], [trained], corpus, store)
    labels = label(context, corpus, handle, spec).manifest
    chosen = select(context, corpus, [labels], spec.select).manifest
    best = distill(context, corpus, [labels], chosen, spec).manifest.facts["best"]
    before = tree(tmp_path)
    found = plan_of(spec)
    assert tree(tmp_path) == before
    assert states(found) == {
        "ingest": "cached",
        "teach big": "cached",
        "label big": "cached",
        "select": "cached",
        "distill taught seed 0": "cached",
        "distill labels_only seed 0": "to do",
        "compare": "to do",
        "evaluate": "to do",
        "export": "to do",
        "drift": "to do",
        "gate": "to do",
        "report": "to do",
        "register": "to do",
    }
    assert (found["bytes"]["shards"], found["bytes"]["soft_labels"]) == (0, 0)
    (taught,) = (stage for stage in found["stages"] if stage["stage"] == "distill taught seed 0")
    assert taught["fit"]["val_teacher_kl"] == best["val_teacher_kl"]
    line_of = next(text for text in render_plan(found).splitlines() if "distill taught" in text)
    assert f"validation {best['val_teacher_kl']:.3g} (constant {best['val_constant_kl']:.3g})" in line_of
    (again,) = (row for row in found["labels"] if row["views"] == 2)
    assert again["bytes"] == sum(output.bytes for output in labels.outputs)
    assert again["hours"] is None
    store.delete(labels.outputs[0].name)
    after = {stage["stage"]: stage for stage in plan_of(spec)["stages"]}
    total = len(labels.outputs)
    assert (after["label big"]["state"], after["label big"]["done"]) == ("partly", total - 1)


def test_phantoms_are_not_drawn(tmp_path: Path) -> None:
    spec = parse_spec(
        """
name: phantoms
store: store
corpus:
  adapter: phantom-fundus
  root: drawn
  phantom: {size: 64, labelled: 40, unlabelled: 60, val: 20, test: 30}
views: {size: 32, count: 1}
teachers: [{name: big, model: micro_xs, train: {steps: 4}}]
student: {model: micro_xs, train: {steps: 4}}
run: {device: cpu}
""",
        base=tmp_path,
    )
    found = plan_of(spec)
    assert list(tmp_path.iterdir()) == []
    assert (found["drawn"], found["images"]) == (False, {"train": 100, "val": 20, "test": 30})
    assert "not drawn yet" in render_plan(found)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.model=mikro", r"no model 'mikro'; did you mean micro"),
        ("teachers.0.weights=nowhere.pth", r"no file .*nowhere\.pth"),
        ("evaluate.metric=akc", r"'akc' is not one of"),
        ("student.loss=[{loss: binary}]", r"binary is for multilabel corpora"),
    ],
)
def test_what_a_run_would_refuse_is_refused(place: Path, override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(spec_at(place, override))


def test_an_engine_that_cannot_run_a_teacher_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="onnxruntime-float16: it computes in float32 only"):
        plan_of(spec_at(place, "run.label.engine=onnxruntime", "run.label.precision=float16"))


def test_a_corpus_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        plan_of(spec_at(tmp_path))
