"""A registered student as a folder: whole, as it was registered, or not at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.digest import sha256_file
from infra.errors import CorruptError, PermanentError, TransientError, UsageError
from infra.servers.prefect_api import free_port
from infra.servers.tracking import connect
from infra.settings import reload_settings
from tasks.register.upload import FILES_TAG
from tasks.registry.pull import pull
from tasks.registry.resolve import resolve
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[JudgedStudents]:
    """A machine on which `eyes` has two versions, of which the first is the champion."""
    with own_machine(tmp_path_factory.mktemp("home")):
        made = judged(tmp_path_factory.mktemp("line"), cluster)
        made.register("eyes", 0)
        made.register("eyes", 1, promote="by_hand")
        yield made


def location(target: str) -> Path:
    """Where the registry keeps the files of a version."""
    return Path(resolve(target).location.removeprefix("file://"))


@pytest.fixture
def spoilt(students: JudgedStudents) -> str:
    """A model of the test's own, whose files may be spoilt."""
    name = f"spoilt-{uuid.uuid4().hex}"
    students.register(name)
    return name


def test_a_folder_holds_every_file_and_says_what_it_is(students: JudgedStudents, tmp_path: Path) -> None:
    note, there = pull("eyes", tmp_path / "eyes")
    assert not there
    told = json.loads((tmp_path / "eyes" / "version.json").read_text())
    assert told == note.to_json()
    assert (told["name"], told["version"], told["alias"], told["verified"]) == ("eyes", "1", "champion", True)
    assert {"MLmodel", "student.py", "artifacts/network.pt2", "artifacts/about.json"} <= told["files"].keys()
    for path, known in told["files"].items():
        assert sha256_file(tmp_path / "eyes" / path) == known["sha256"]
    assert [each.name for each in tmp_path.iterdir()] == ["eyes"]


@pytest.mark.parametrize(
    ("target", "version", "alias"),
    [("eyes@challenger", "2", "challenger"), ("eyes/2", "2", ""), ("models:/eyes@champion", "1", "champion")],
)
def test_a_version_is_named_in_several_ways(
    students: JudgedStudents, tmp_path: Path, target: str, version: str, alias: str
) -> None:
    note, _ = pull(target, tmp_path / "made" / "eyes")
    assert (note.version, note.alias) == (version, alias)


def test_an_empty_folder_is_filled(students: JudgedStudents, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert pull("eyes", tmp_path / "empty")[1] is False
    assert (tmp_path / "empty" / "student.py").is_file()


def test_the_same_version_is_there_already(students: JudgedStudents, tmp_path: Path) -> None:
    first, _ = pull("eyes", tmp_path / "eyes")
    again, there = pull("eyes/1", tmp_path / "eyes")
    assert there
    assert again == first


def test_a_folder_that_was_changed_since_is_no_version(students: JudgedStudents, tmp_path: Path) -> None:
    pull("eyes", tmp_path / "eyes")
    with (tmp_path / "eyes" / "student.py").open("a") as file:
        file.write("\n")
    with pytest.raises(CorruptError, match=r"student\.py: changed since it was pulled"):
        pull("eyes", tmp_path / "eyes")


def test_another_version_in_the_folder_is_left(students: JudgedStudents, tmp_path: Path) -> None:
    pull("eyes/2", tmp_path / "eyes")
    with pytest.raises(UsageError, match="it holds eyes version 2, and eyes version 1 was asked for"):
        pull("eyes", tmp_path / "eyes")


def test_a_folder_of_somebody_else_is_left(students: JudgedStudents, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="the folder is not empty"):
        pull("eyes", tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("ears", r"has no model 'ears'; it has .*eyes"),
        ("eyes@best", r"eyes has no alias 'best'; aliases: challenger \(version 2\), champion \(version 1\); "),
        ("eyes/7", "eyes has no version 7; .*versions: 1, 2$"),
        ("eyes@a@b", "'eyes@a@b' is neither NAME, NAME@ALIAS nor NAME/VERSION"),
    ],
)
def test_what_the_registry_does_not_have_is_named(
    students: JudgedStudents, tmp_path: Path, target: str, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        pull(target, tmp_path / "made")


def test_a_file_that_was_altered_in_the_artifact_store_is_named_and_nothing_is_written(
    spoilt: str, tmp_path: Path
) -> None:
    graph = location(spoilt) / "artifacts" / "network.pt2"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(
        CorruptError, match=r"artifacts/network\.pt2 in the artifact store is not the file that was reg"
    ):
        pull(spoilt, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_artifact_store_lost_is_named(spoilt: str, tmp_path: Path) -> None:
    (location(spoilt) / "student.py").unlink()
    with pytest.raises(PermanentError, match=r"the artifact store lacks student\.py"):
        pull(spoilt, tmp_path / "made")


def test_a_file_that_nobody_registered_is_refused(spoilt: str, tmp_path: Path) -> None:
    (location(spoilt) / "artifacts" / "python_model.pkl").write_bytes(b"cos\nsystem\n")
    with pytest.raises(PermanentError, match=r"has artifacts/python_model\.pkl, which nobody registered"):
        pull(spoilt, tmp_path / "made")


def test_a_version_without_digests_is_taken_only_on_demand(spoilt: str, tmp_path: Path) -> None:
    connect().delete_model_version_tag(spoilt, "1", FILES_TAG)
    with pytest.raises(UsageError, match=r"by a release that noted no digests.*--unverified"):
        pull(spoilt, tmp_path / "made")
    note, _ = pull(spoilt, tmp_path / "made", unverified=True)
    assert not note.verified
    assert note.files["student.py"]["sha256"] == sha256_file(tmp_path / "made" / "student.py")
    assert pull(spoilt, tmp_path / "made", unverified=True) == (note, True)


def test_progress_ends_with_every_byte(students: JudgedStudents, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    note, _ = pull("eyes", tmp_path / "made", progress=lambda done, total: told.append((done, total)))
    size = sum(each["bytes"] for each in note.files.values())
    assert told[0] == (0, size)
    assert told[-1] == (size, size)


def test_a_registry_that_nobody_runs_is_transient(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", f"http://127.0.0.1:{free_port()}")
    reload_settings()
    with pytest.raises(TransientError, match="nobody listens there"):
        pull("eyes", home / "made")


def test_a_machine_without_a_registry_makes_none(home: Path) -> None:
    with pytest.raises(UsageError, match="there is no registry at sqlite"):
        pull("eyes", home / "made")
    assert not (home / "mlflow.db").exists()


def test_a_tag_that_names_places_outside_is_refused(students: JudgedStudents, tmp_path: Path, spoilt: str) -> None:
    files: dict[str, Any] = dict(resolve(spoilt).files or {})
    files["../../evil.py"] = files["student.py"]
    connect().set_model_version_tag(spoilt, "1", FILES_TAG, json.dumps(files))
    with pytest.raises(PermanentError, match=r"'\.\./\.\./evil\.py' is no name of a model's file"):
        pull(spoilt, tmp_path / "made")
