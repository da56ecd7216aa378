"""The packed model: one folder for a pyfunc, for `mlflow.onnx` and for people, without a place of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from infra.compute.cluster import Cluster
from infra.errors import PermanentError
from infra.servers.tracking import alias_of, connect
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, load_image
from tasks.evaluate.stage import evaluate
from tasks.export.stage import export
from tasks.pipeline.context import Context
from tasks.register.judged import Judged
from tasks.register.model import about_of, pack
from tasks.register.stage import register
from tests.tasks.machine import own_machine
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

Line = tuple[Corpus, Manifest, Judged]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine with its own MLflow database."""
    with own_machine(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="module")
def line(home: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Line:
    """A corpus, its student, and the manifests of its report and export."""
    store = LocalStore(tmp_path_factory.mktemp("model") / "store")
    corpus = tiny_corpus(store, val=8, test=16, size=70)
    student = trained(corpus, "taught")
    report = evaluate(Context(store, cluster, tiny_spec(store).run), corpus, [student], tiny_spec(store)).manifest
    exported = export(Context(store), corpus, report, [student]).manifest
    return corpus, student, Judged(report, exported, card="# A student\n")


@pytest.fixture(scope="module")
def registered(line: Line) -> Any:
    """The version in the registry."""
    corpus, student, judged = line
    assert judged.report is not None
    register(Context(corpus.store), judged.report, student, corpus, [], tiny_spec(corpus.store), None, judged.export)
    return alias_of(connect(), "tiny-student", "challenger")


@pytest.fixture(scope="module")
def packed(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed folder, with a model card."""
    from mlflow.models import Model

    corpus, student, judged = line
    return pack(corpus, student, tmp_path_factory.mktemp("packed"), Model(), judged)


def test_the_folder_has_every_file_a_consumer_needs(line: Line, packed: Path) -> None:
    export = line[2].export
    assert export is not None
    names = {"network.pt2", "network.onnx", "about.json", "preprocessing.json", "model_card.md"}
    offered = {"network.int8.onnx"} if export.outputs_where(kind="onnx_int8") else set()
    assert {path.name for path in (packed / "artifacts").iterdir()} == names | offered
    assert (packed / "student.py").is_file()
    assert (packed / "artifacts/model_card.md").read_text() == "# A student\n"


def test_the_files_are_those_of_the_export(line: Line, packed: Path) -> None:
    export = line[2].export
    assert export is not None
    for kind, name in (("pt2", "network.pt2"), ("onnx", "network.onnx")):
        data = (packed / "artifacts" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == export.output(kind=kind).sha256


def test_no_file_names_a_place_of_this_machine(packed: Path) -> None:
    places = [str(Path(__file__).parents[3]), tempfile.gettempdir() + "/", str(Path.home()) + "/", sys.prefix]
    for path in packed.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [place for place in places if place.encode() in data], path


def test_it_loads_as_a_pyfunc_and_as_onnx_without_pickles(line: Line, packed: Path, tmp_path: Path) -> None:
    corpus = line[0]
    image = load_image(corpus.store, corpus.of_split("test")[0], 0)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import json, sys, numpy as np, mlflow.pyfunc, mlflow.onnx\n"
        "image = np.load(sys.argv[2])\n"
        "graph = mlflow.onnx.load_model(sys.argv[1])\n"
        "found = mlflow.pyfunc.load_model(sys.argv[1]).predict(image[None])\n"
        "shares = list(found['probabilities'][0].values())\n"
        "print(json.dumps([graph.graph.input[0].name, len(shares), sum(shares)]))\n"
    )
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed), str(tmp_path / "image.npy")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name, classes, total = json.loads(done.stdout.splitlines()[-1])
    assert (name, classes, total) == ("image", 3, pytest.approx(1, abs=1e-5))


def test_without_an_export_the_graphs_are_made(line: Line, tmp_path: Path) -> None:
    from mlflow.models import Model

    made = pack(line[0], line[1], tmp_path, Model())
    assert onnx.load(made / "artifacts/network.onnx").graph.output[0].name == "logits"
    assert not (made / "artifacts/network.int8.onnx").exists()


def test_an_export_of_another_student_is_refused(line: Line, tmp_path: Path) -> None:
    from mlflow.models import Model

    other = trained(line[0], "taught", 5)
    with pytest.raises(PermanentError, match=r"export .{12} is of student .{12}, not this one"):
        pack(line[0], other, tmp_path, Model(), Judged(export=line[2].export))


def test_about_holds_the_operating_point_of_the_gate(line: Line) -> None:
    report = line[2].report
    assert report is not None
    point = {"threshold": 0.4, "sensitivity": {"value": 0.9, "interval": None}}
    gate = report.model_copy(update={"facts": {"operating_point": point}})
    assert about_of(line[1], Judged(gate=gate))["operating_point"] == point
    assert "operating_point" not in about_of(line[1], Judged())


def test_the_version_says_what_it_offers(line: Line, registered: Any) -> None:
    export = line[2].export
    assert export is not None
    rows = {row["format"]: row for row in json.loads(registered.tags["stillroom.formats"])}
    assert set(rows) == {output.meta["kind"] for output in export.outputs}
    assert rows["onnx"]["file"] == "network.onnx"
    assert rows["onnx"]["bytes"] == export.output(kind="onnx").bytes
    assert {"parity", "latency", "sha256"} <= set(rows["onnx"])
    assert registered.tags["stillroom.manifest.export"] == export.digest


def test_the_version_lists_every_file_with_its_digest(registered: Any) -> None:
    folder = Path(str(registered.source).removeprefix("file://"))
    listed = json.loads(registered.tags["stillroom.files"])
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(listed) == set(found)
    for name, path in found.items():
        data = path.read_bytes()
        assert listed[name] == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}, name


def test_both_flavors_stand_in_the_model_file(packed: Path) -> None:
    flavors = yaml.safe_load((packed / "MLmodel").read_text())["flavors"]
    assert flavors["onnx"]["data"] == "artifacts/network.onnx"
    assert flavors["python_function"]["model_code_path"] == "student.py"
    assert {each["uri"] for each in flavors["python_function"]["artifacts"].values()} == {
        f"artifacts/{path.name}" for path in (packed / "artifacts").iterdir()
    }
