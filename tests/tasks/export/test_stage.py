"""The stage: what it stores, what it says, what decides its key, and that damage and strange students are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from torch import nn

from infra.compute.cluster import Cluster
from infra.errors import CorruptError, PermanentError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import LocalStore
from models.export.onnx_graph import IR, OPSET
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.export import formats as module
from tasks.export.images import calibration_images, compared_images
from tasks.export.stage import ExportWork, export
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

Line = tuple[Corpus, list[Manifest], Manifest]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Line:
    """A corpus, a student and its report."""
    store = LocalStore(tmp_path_factory.mktemp("export") / "store")
    corpus = tiny_corpus(store, val=8, test=16, size=70)
    models = [trained(corpus, "taught", 0)]
    spec = tiny_spec(store)
    return corpus, models, evaluate(Context(store, cluster, spec.run), corpus, models, spec).manifest


@pytest.fixture(scope="module")
def result(line: Line) -> StageResult:
    """The first export."""
    corpus, models, report = line
    return export(Context(corpus.store), corpus, report, models)


def row(result: StageResult, name: str) -> dict[str, Any]:
    return next(each for each in result.manifest.facts["formats"] if each["format"] == name)


def test_the_files_are_stored_with_what_is_known_of_them(line: Line, result: StageResult) -> None:
    for kind in ("pt2", "onnx"):
        output = result.manifest.output(kind=kind)
        assert output.name.startswith("exports/tiny/")
        found = row(result, kind)
        assert (found["bytes"], found["sha256"], found["offered"]) == (output.bytes, output.sha256, True)
        assert found["parity"]["images"] == 16
        assert found["parity"]["largest"] < 1e-4
    assert (row(result, "onnx")["opset"], row(result, "onnx")["ir"]) == (OPSET, IR)


def test_int8_is_stored_where_it_is_offered(result: StageResult) -> None:
    found = row(result, "onnx_int8")
    assert len(result.manifest.outputs_where(kind="onnx_int8")) == found["offered"]
    assert "float32" in found["why"]
    assert len(found["latency"]) > 0


def test_the_stored_graph_answers_as_the_report_says(line: Line, result: StageResult) -> None:
    corpus, models, report = line
    images = compared_images(corpus, report, models[0].facts["view_size"], models[0].facts["input_size"])
    graph = read_output(corpus.store, result.manifest.output(kind="onnx"))
    (logits,) = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(
        ["logits"], {"image": images.images}
    )
    arm = report.facts["arms"]["taught"]["per_seed"][0]
    assert float((logits.argmax(axis=1) == images.label).mean()) == pytest.approx(arm["accuracy"], abs=1e-6)


def test_facts_name_the_student_and_what_it_costs(line: Line, result: StageResult) -> None:
    facts = result.manifest.facts
    assert (facts["model"], facts["student"], facts["arm"], facts["seed"]) == ("micro_xs", line[1][0].key, "taught", 0)
    assert facts["input"]["shape"] == ["N", 32, 32, 3]
    assert facts["parameters"] == line[1][0].facts["parameters"]
    assert facts["multiply_adds"] > facts["parameters"]
    assert "threads" in facts["machine"]
    json.dumps(facts)


def test_a_second_call_is_cached(line: Line, result: StageResult) -> None:
    corpus, models, report = line
    again = export(Context(corpus.store), corpus, report, models)
    assert (again.cached, again.manifest) == (True, result.manifest)


def test_a_lost_file_is_made_again_under_the_same_key(line: Line, result: StageResult) -> None:
    corpus, models, report = line
    name = result.manifest.output(kind="onnx").name
    corpus.store.delete(name)
    again = export(Context(corpus.store), corpus, report, models)
    assert not again.cached
    assert again.manifest.key == result.manifest.key
    assert again.manifest.output(kind="onnx").name == name


def test_the_table_has_a_row_a_runtime(line: Line, result: StageResult) -> None:
    corpus, models, report = line
    (artifact,) = ExportWork(Context(corpus.store), corpus, report, models).artifacts(result, 0.0)
    assert isinstance(artifact.content, list)
    assert len(artifact.content) == sum(len(each["latency"]) for each in result.manifest.facts["formats"])
    assert "multiply-adds" in artifact.description


def test_calibration_sees_training_images_alone(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = line[0]
    seen: list[str] = []
    monkeypatch.setattr(
        "tasks.export.images.load_image",
        lambda store, shard, place: seen.append(shard.split) or np.zeros((40, 40, 3), np.uint8),
    )
    assert calibration_images(corpus, 36, 32).shape == (32, 32, 32, 3)
    assert seen == ["train"] * 32


def test_a_report_without_a_student_is_refused(line: Line) -> None:
    corpus, models, report = line
    none = report.model_copy(update={"facts": {**report.facts, "best": None}})
    with pytest.raises(UsageError, match="names no best student among the 1 models"):
        export(Context(corpus.store), corpus, none, models)


def test_a_damaged_test_image_is_told(line: Line, tmp_path: Path, cluster: Cluster) -> None:
    store = LocalStore(tmp_path / "store")
    corpus = tiny_corpus(store, val=4, test=6)
    models, spec = [trained(corpus, "taught")], tiny_spec(store)
    report = evaluate(Context(store, cluster, spec.run), corpus, models, spec).manifest
    name = corpus.of_split("test")[0].output.name
    data = bytearray(store.get(name))
    data[600] ^= 1
    (tmp_path / "store" / name).write_bytes(bytes(data))
    with pytest.raises(CorruptError, match="are not those ingested"):
        export(Context(store), corpus, report, models)


def test_a_file_that_answers_otherwise_is_refused(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, models, report = line
    other = trained(corpus, "taught", lean=3.0)
    exported = module.export_onnx
    network = module.load_trained_network(corpus, other).module

    def wrong(given: Any) -> bytes:
        return exported(module.Network(given.size, given.mean, given.std, given.num_classes, module=network))

    monkeypatch.setattr(module, "export_onnx", wrong)
    with pytest.raises(PermanentError, match=r"micro_xs seed 0 as onnx: a probability differs by 0\.\d+ from PyTorch"):
        ExportWork(Context(corpus.store), corpus, report, models).make()


def test_a_student_that_cannot_be_quantised_is_exported_without(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, models, report = line
    monkeypatch.setattr("models.export.int8._quantise", lambda *_: (_ for _ in ()).throw(KeyError("Softsign")))
    made = ExportWork(Context(corpus.store), corpus, report, models).make().manifest
    (found,) = (each for each in made.facts["formats"] if each["format"] == "onnx_int8")
    assert (found["offered"], found["bytes"], found["latency"]) == (False, None, [])
    assert "cannot be quantised: KeyError" in found["why"]
    assert [output.meta["kind"] for output in made.outputs] == ["pt2", "onnx"]


def test_a_student_that_cannot_be_exported_is_refused(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mean((2, 3)) if bool(x.sum() > 0) else x.amax((2, 3))

    corpus, models, report = line
    loaded = module.load_trained_network(corpus, models[0])
    monkeypatch.setattr(module, "load_trained_network", lambda *_: type(loaded)(Odd(), 36, 32, loaded.mean, loaded.std))
    with pytest.raises(PermanentError, match="micro_xs seed 0: Odd cannot be exported for any batch size"):
        ExportWork(Context(corpus.store), corpus, report, models).make()
