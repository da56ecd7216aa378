"""verify, repair, gc, forget and inspect as a person runs them, on what a run of the whole line left."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.storage.store import LocalStore
from tests.line import Place, states
from tests.tasks.maintenance.erasing import corpus_of, search, traces


@pytest.fixture
def copy(place: Place, first: dict[str, Any]) -> Iterator[Path]:
    """A copy of the line's store that a test may damage; commands run in the line's folder."""
    folder = place.root / "copy"
    yield Path(shutil.copytree(place.store, folder))
    shutil.rmtree(folder)


def shard(store: Path) -> Path:
    return sorted((store / "shards").rglob("*.tar"))[0]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_a_whole_store_verifies(place: Place, first: dict[str, Any]) -> None:
    done = place.run("verify", "store")
    assert done.returncode == 0, done.stderr
    assert "everything is as written" in done.stdout
    found = place.json("verify", "store")
    assert found["defects"] == []
    assert found["objects"] > 20


def test_verify_names_the_sample_and_repair_undoes_it(place: Place, copy: Path) -> None:
    whole = shard(copy).read_bytes()
    flip(shard(copy), 600)
    told = place.run("verify", "copy")
    assert told.returncode == 1
    (line, closing) = told.stdout.splitlines()
    name = shard(copy).relative_to(copy).as_posix()
    assert line.startswith(f"bytes    {name}: bytes are not those written; images damaged; 1 of its samples hit: ")
    assert "1 defect;" in closing
    found = place.run("verify", "copy", "--json")
    assert found.returncode == 1
    assert [d["object"] for d in json.loads(found.stdout)["defects"]] == [name]
    done = place.json("repair", "copy")
    assert [(a["object"], a["action"]) for a in done["actions"]] == [(name, "rebuilt")]
    assert shard(copy).read_bytes() == whole
    assert place.run("verify", "copy").returncode == 0
    assert "nothing to repair" in place.run("repair", "copy").stdout


def test_what_cannot_be_repaired_fails(place: Place, copy: Path) -> None:
    (manifest,) = (copy / "manifests/ingest").glob("*.json")
    flip(manifest, 30)
    done = place.run("repair", "copy")
    assert done.returncode == 1
    told = [line.split(": ")[0].split() for line in done.stdout.splitlines()[:-1]]
    assert told == [["left", "heads/phantom-fundus"], ["removed", f"manifests/ingest/{manifest.name}"]]


def test_a_repaired_store_makes_exactly_the_rest_again(place: Place, copy: Path) -> None:
    soft = sorted((copy / "labels").rglob("*.safetensors"))[0]
    flip(soft, 200)
    done = place.json("repair", "copy")
    assert [a["action"] for a in done["actions"]] == ["removed"]
    again = place.json("retrain", str(place.spec), "--set", "store=copy")
    assert {stage for stage, state in states(again).items() if state != "Cached"} == {"label big"}
    assert place.run("verify", "copy").returncode == 0


def test_gc_keeps_what_a_recent_run_and_a_version_need(place: Place, first: dict[str, Any]) -> None:
    records = [json.loads(data) for data in place.files("runs").values()]
    assert {record["spec"] for record in records} == {"small"}
    stages = [{stage for stage, _ in record["manifests"]} for record in records]
    taught = {"teach", "compare", "label", "select", "distill"}
    assert {"ingest", *taught, "evaluate", "export", "drift", "gate", "report", "register"} in stages
    before = place.files("")
    found = place.json("gc", "store", "--grace-hours", "0", "--keep-days", "0")
    assert not found["deleted"]
    # The version leads to every manifest; unit records of predictions are needed by nobody.
    assert set(found["kinds"]) <= {"runs", "units", "predictions", "checkpoints"}
    assert place.files("") == before
    without = place.json("gc", "store", "--grace-hours", "0", "--keep-days", "0", "--no-registry")
    assert {"manifests", "labels", "models"} <= set(without["kinds"])
    assert "Nothing was removed" in place.run("gc", "store", "--grace-hours", "0", "--keep-days", "0").stdout


def test_gc_deletes_and_what_is_left_is_whole_and_cached(place: Place, copy: Path) -> None:
    found = place.json("gc", "copy", "--grace-hours", "0", "--keep-days", "0", "--delete")
    assert found["deleted"]
    assert found["bytes"] > 0
    assert place.json("verify", "copy")["strays"] == 0
    again = place.json("retrain", str(place.spec), "--set", "store=copy")
    assert set(states(again).values()) == {"Cached"}


def test_inspect_shows_store_shard_key_and_soft_labels(place: Place, first: dict[str, Any]) -> None:
    store = place.json("inspect", "store")
    (corpus,) = store["corpora"]
    assert sum(corpus["images"].values()) == 48 + 32 + 24 + 24
    assert "source width, px" in place.run("inspect", "store").stdout
    name = shard(place.store).name
    samples = place.json("inspect", "store", name)["samples"]
    assert all(sample["whole"] for sample in samples)
    key = place.json("inspect", "store", samples[0]["key"])
    assert {soft["teacher"] for soft in key["soft_labels"]} == {"big"}
    soft = key["soft_labels"][0]["object"]
    done = place.run("inspect", "store", soft, "--parquet", "soft.parquet")
    assert done.returncode == 0, done.stderr
    assert "teacher big, view 0" in done.stdout
    assert samples[0]["key"] in pq.read_table(place.root / "soft.parquet")["key"].to_pylist()


def test_inspect_draws_a_contact_sheet(place: Place, first: dict[str, Any]) -> None:
    assert place.run("inspect", "store", "--sheet", "sheet.png").returncode == 0
    assert (place.root / "sheet.png").read_bytes().startswith(b"\x89PNG")
    missing = place.run("inspect", "store", "--sheet", "no/folder/sheet.png")
    assert (missing.returncode, "there is no folder" in missing.stderr) == (2, True)


@pytest.mark.parametrize("command", ["verify", "repair", "gc", "inspect"])
def test_a_mistyped_store_is_wrong_usage(place: Place, command: str) -> None:
    done = place.run(command, "stor")
    assert done.returncode == 2
    assert "no store: it has neither heads/" in done.stderr


def patients(store: Path) -> dict[str, str]:
    """A patient of each split; of two digits, so that its name is no part of another's."""
    corpus = corpus_of(LocalStore(store), "phantom-fundus")
    return {shard.split: str(name) for shard in corpus.shards for name in shard.patient if 10 <= int(name) < 100}


def test_forget_leaves_no_byte_of_patients_in_what_a_run_made(
    place: Place, copy: Path, first: dict[str, Any], tmp_path: Path
) -> None:
    store, chosen = LocalStore(copy), patients(copy)
    wanted: dict[str, bytes] = {}
    for name in chosen.values():
        wanted |= traces(store, name, title="phantom-fundus")
    names = tmp_path / "patients.txt"
    names.write_text("\n".join(chosen.values()) + "\n")
    dry = place.run("forget", "copy", "--patients-from", str(names), "--dry-run")
    assert "would be erased" in dry.stdout
    done = place.json("forget", "copy", "--patients-from", str(names))
    assert search(store, wanted) == []
    assert {"name": "small", "version": "1"} in done["versions"]
    assert {each["arm"] for each in done["models"]} >= {"taught", "labels_only", "teacher:big"}
    assert place.run("verify", "copy").returncode == 0
    assert "nothing is left to erase" in place.run("forget", "copy").stdout


def test_forget_says_what_it_did(place: Place, copy: Path, first: dict[str, Any]) -> None:
    done = place.run("forget", "copy", "--patient", patients(copy)["train"])
    assert done.returncode == 0, done.stderr
    assert "phantom-fundus: " in done.stdout
    assert "registered models that learned of them: " in done.stdout


def test_forget_of_nobody_known_is_wrong_usage(place: Place, copy: Path, first: dict[str, Any]) -> None:
    done = place.run("forget", "copy", "--patient", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "1 of 1 patients are in no corpus (phantom-fundus): number 1 of the request. Nothing was erased" in done.stderr
    )


def test_an_erasure_labels_again_without_the_patient(place: Place, copy: Path, first: dict[str, Any]) -> None:
    store, name = LocalStore(copy), patients(copy)["train"]
    wanted = traces(store, name, title="phantom-fundus")
    done = place.json("forget", "copy", "--patient", name, "--relabel", str(place.spec), "--set", "store=copy")
    assert done["done"]
    assert {state for stage, state in states(done["relabelled"]).items() if stage != "ingest"} == {"Completed"}
    assert search(store, wanted) == []


@pytest.mark.parametrize(
    ("more", "says"), [(["--dry-run"], "nothing to --relabel"), ([], "its store is .*, not .*; nothing was erased")]
)
def test_labelling_that_could_not_follow_is_refused_before_the_erasure(
    place: Place, copy: Path, first: dict[str, Any], more: list[str], says: str
) -> None:
    name = patients(copy)["train"]
    refused = place.run("forget", "copy", "--patient", name, "--relabel", str(place.spec), *more)
    assert (refused.returncode, bool(re.search(says, refused.stderr))) == (2, True)
    assert not LocalStore(copy).sizes("forgotten/")
