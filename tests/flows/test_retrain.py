"""The whole line as a command: made, found again, mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.line import Place, digests, states


def test_every_stage_is_made(first: dict[str, Any]) -> None:
    assert list(states(first)) == [
        "ingest",
        "teach big",
        "distill labels_only seed 0",
        "compare",
        "label big",
        "select",
        "distill taught seed 0",
        "evaluate",
        "export",
        "drift",
        "gate",
        "report",
        "register",
    ]
    assert set(states(first).values()) == {"Completed"}


def test_the_student_is_registered_as_challenger_and_first_champion(first: dict[str, Any]) -> None:
    assert sorted(first["results"]["register"]["aliases"]) == ["challenger", "champion"]


def test_the_first_champion_has_none_to_go_back_to(place: Place, first: dict[str, Any]) -> None:
    done = place.run("rollback", "small", "--by", "Dr. Ito", "--reason", "a complaint")
    assert done.returncode == 2
    assert "small version 1 is the first champion: nothing to go back to" in done.stderr


def test_the_report_stands_in_the_store(first: dict[str, Any]) -> None:
    text = Path(first["report"]).read_text()
    assert "phantoms, drawn by code" in text
    assert "thumbnail" in text


def test_a_second_run_finds_everything(place: Place, first: dict[str, Any]) -> None:
    again = place.json("retrain", str(place.spec))
    assert again["cached"] is True
    assert set(states(again).values()) == {"Cached"}
    assert digests(again) == digests(first)


def made(place: Place) -> dict[str, bytes]:
    """The store without the records that every run leaves of itself."""
    return {name: data for name, data in place.files("").items() if not name.startswith("runs/")}


def test_a_deleted_shard_is_made_again_alone(place: Place, first: dict[str, Any]) -> None:
    before = made(place)
    shard = next(name for name in before if name.startswith("shards/") and name.endswith(".tar"))
    (place.store / shard).unlink()
    again = place.json("retrain", str(place.spec))
    changed = [stage for stage in again["stages"] if stage["state"] != "Cached"]
    assert [(stage["stage"], stage["message"].split(" of ")[0]) for stage in changed] == [("ingest", "made 1")]
    assert digests(again) == digests(first)
    assert made(place) == before


def test_run_settings_recompute_nothing(place: Place, first: dict[str, Any]) -> None:
    again = place.json("retrain", str(place.spec), "--set", "run.label.batch=7", "--set", "run.cluster.workers=3")
    assert again["cached"] is True


def test_a_stage_alone_stops_there(place: Place, first: dict[str, Any]) -> None:
    assert list(states(place.json("label", str(place.spec)))) == ["ingest", "teach big", "label big"]


def test_an_unknown_key_is_wrong_usage(place: Place, first: dict[str, Any]) -> None:
    done = place.run("retrain", str(place.spec), "--set", "student.trian=1")
    assert done.returncode == 2
    assert "unknown key student.trian; did you mean train" in done.stderr


def test_an_unknown_model_is_wrong_usage(place: Place, first: dict[str, Any]) -> None:
    done = place.run("distill", str(place.spec), "--set", "student.model=resnet_18")
    assert done.returncode == 2
    assert "did you mean resnet18" in done.stderr


def test_nothing_is_left_running(place: Place, first: dict[str, Any]) -> None:
    assert place.processes() == []
