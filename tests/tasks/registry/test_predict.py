"""A pulled folder that answers for files, without a registry."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorruptError, UsageError
from tasks.registry.predict import find_files, load_pulled
from tasks.registry.pull import pull
from tests.tasks.ingest.dicoms import dicom
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[JudgedStudents]:
    """A machine on which the graded student `eyes` is registered."""
    with own_machine(tmp_path_factory.mktemp("home")):
        made = judged(tmp_path_factory.mktemp("line"), cluster, "evaluate.referable=1", task="ordinal")
        made.register("eyes")
        yield made


@pytest.fixture(scope="module")
def pulled(students: JudgedStudents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student as a folder."""
    folder = tmp_path_factory.mktemp("pulled") / "eyes"
    pull("eyes", folder)
    return folder


@pytest.fixture(scope="module")
def images(students: JudgedStudents, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The test images as files of one folder."""
    return students.images(tmp_path_factory.mktemp("images"))


def test_files_get_the_probabilities_of_the_evaluation(
    students: JudgedStudents, pulled: Path, images: list[Path]
) -> None:
    found = list(load_pulled(pulled).rows(images))
    output = students.report.output(kind="predictions")
    table = pq.read_table(students.corpus.store.local_path(output.name)).to_pylist()
    first = students.models[0].facts
    known = {
        row["key"]: row["prob"]
        for row in table
        if (row["arm"], row["seed"], row["split"]) == (first["arm"], first["seed"], "test")
    }
    assert len(found) == len(known) == 8
    for row in found:
        assert row["error"] is None
        probabilities = list(row["probabilities"].values())
        assert probabilities == pytest.approx(known[Path(row["file"]).stem], abs=1e-5)
        assert row["class"] == f"class-{row['grade']}"
        assert 0 <= row["p_referable"] <= 1


def test_a_file_that_is_no_image_has_an_error_and_the_others_are_done(
    pulled: Path, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    told: list[tuple[int, int]] = []
    files = [images[0], tmp_path / "letter.jpg", tmp_path / "gone.png", *images[1:]] * 2
    found = list(load_pulled(pulled).rows(files, lambda done, total: told.append((done, total))))
    assert [row["file"] for row in found] == [str(path) for path in files]
    assert [row["error"] is None for row in found] == [path in images for path in files]
    assert found[1]["error"].startswith("the content is no image")
    assert found[2]["error"] == "cannot be read: No such file or directory"
    assert found[1]["class"] is None
    assert told == [(0, 20), (16, 20), (20, 20)]


def test_a_dicom_is_looked_at(pulled: Path, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(70, dtype=np.uint8), (70, 1))
    (tmp_path / "scan.dcm").write_bytes(dicom(ramp))
    (row,) = load_pulled(pulled).rows(find_files([str(tmp_path)]))
    assert (row["error"], Path(row["file"]).name) == (None, "scan.dcm")


def test_folders_and_patterns_name_their_images(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", ".thumb.png", "sub/c.tiff"):
        (tmp_path / name).write_bytes(b"x")
    found = find_files([str(tmp_path), str(tmp_path / "*.png"), str(tmp_path / "notes.txt"), str(images[0])])
    names = [path.name for path in found]
    assert names == ["a.JPG", "b.png", "c.tiff", "notes.txt", images[0].name]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image in this folder"):
        find_files([str(tmp_path)])
    with pytest.raises(UsageError, match="no file fits this pattern"):
        find_files([str(tmp_path / "*.png")])


def test_code_that_was_changed_is_not_run(students: JudgedStudents, tmp_path: Path) -> None:
    folder = tmp_path / "eyes"
    pull("eyes", folder)
    mark = tmp_path / "ran"
    with (folder / "student.py").open("a") as file:
        file.write(f"\nopen({str(mark)!r}, 'w').close()\n")
    with pytest.raises(CorruptError, match=r"student\.py: changed since it was pulled"):
        load_pulled(folder)
    assert not mark.exists()


def test_a_folder_that_nobody_pulled_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no version\.json; make it with `stillroom pull NAME --to"):
        load_pulled(tmp_path)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a clinic does: without a registry."""
    env = {**os.environ, "STILLROOM_MLFLOW_URI": "http://127.0.0.1:9", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    whole = [sys.executable, "-m", "flows.cli", "predict", *map(str, arguments)]
    return subprocess.run(whole, env=env, capture_output=True, text=True, check=False)


def test_the_command_prints_a_line_an_image_as_csv(pulled: Path, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    ran = command(pulled, images[0].parent, tmp_path / "empty.png", "--csv")
    assert ran.returncode == 1, ran.stderr
    rows: list[dict[str, Any]] = list(csv.DictReader(ran.stdout.splitlines()))
    assert list(rows[0]) == [
        *("file", "class", "probability", "p(class-0)", "p(class-1)", "p(class-2)", "grade", "p_referable", "error")
    ]
    assert len(rows) == 9
    assert sum(float(rows[0][f"p(class-{number})"]) for number in range(3)) == pytest.approx(1, abs=1e-4)
    assert rows[8]["error"] == "the file is empty (zero bytes)"
    assert rows[8]["class"] == ""
    assert ran.stderr == "1 of 9 images cannot be used\n"


def test_the_command_prints_one_json_document(pulled: Path, images: list[Path]) -> None:
    ran = command(pulled, images[0], "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["name"], found["version"], len(found["rows"])) == ("eyes", "1", 1)
    assert ran.stderr == ""


def test_the_command_tells_people(pulled: Path, images: list[Path]) -> None:
    ran = command(pulled, images[0])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{images[0]}: class-")
    assert "P(referable) 0." in ran.stdout
