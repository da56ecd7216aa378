"""EyePACS teaches Messidor: one spec, one label map, two corpora, the whole line, figures apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.corpora.phantom.fundus import draw_fundus
from tasks.data.corpus import Corpus
from tests.line import Place, states
from tests.tasks.corpora.public_layouts import messidor

SPEC = """
name: two
store: store
corpora:
  - adapter: phantom-fundus
    name: eyepacs
    root: eyepacs
    label_map: referable
    phantom: {size: 64, labelled: 48, unlabelled: 16, val: 24, test: 24, seed: 5}
  - adapter: messidor
    root: messidor
    label_map: referable
    split: {val: 0.1, test: 0.5}
ingest: {size: 64, crop: none, shard_size: 16}
views: {size: 48, count: 2}
teachers:
  - {name: big, model: micro_m, train: {steps: 24, batch: 16, lr: 0.005}}
student:
  model: micro_xs
  train: {steps: 40, batch: 16, lr: 0.005}
  seeds: [0]
evaluate: {bootstrap: 50}
gate: {enabled: false}
run: {device: cpu, cluster: {workers: 1}}
"""


def messidor_phantoms(root: Path) -> Path:
    """80 drawn photographs in two bases of Messidor's layout, 20 of each grade."""
    names = {base: {f"2005{base}{n:02d}_{n:05d}_0100_PP": n % 4 for n in range(40)} for base in ("11", "12")}
    messidor(root, names)
    for base, grades in names.items():
        for n, (name, grade) in enumerate(grades.items()):
            drawn = draw_fundus(int(base), n, "left", grade, 64)
            cv2.imwrite(str(root / f"Base{base}" / f"{name}.tif"), drawn[..., ::-1])
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    place = Place(tmp_path_factory.mktemp("two"), text=SPEC, api=prefect_server)
    messidor_phantoms(place.root / "messidor")
    return place


@pytest.fixture(scope="module")
def plan(place: Place) -> dict[str, Any]:
    """Before anything is made."""
    return place.json("plan", str(place.spec))


@pytest.fixture(scope="module")
def made(place: Place, plan: dict[str, Any]) -> dict[str, Any]:
    return place.json("retrain", str(place.spec))


def manifest_of(place: Place, stage: str) -> Manifest:
    store = LocalStore(place.store)
    (name,) = store.sizes(f"manifests/{stage}/")
    return Manifest.from_bytes(store.get(name), name)


def test_a_plan_foresees_what_the_run_counts(place: Place, plan: dict[str, Any], made: dict[str, Any]) -> None:
    facts = manifest_of(place, "combine").facts
    assert (plan["corpus"], plan["classes"]) == ("eyepacs-and-messidor", facts["classes"])
    # Phantoms that are not drawn yet have about equal classes, so that only their number is known.
    assert plan["images"] == facts["images"]
    assert [stage["stage"] for stage in plan["stages"]][:3] == ["ingest eyepacs", "ingest messidor", "combine"]


def test_the_report_gives_the_figures_of_each_corpus(place: Place, made: dict[str, Any]) -> None:
    facts = manifest_of(place, "evaluate").facts
    rows = {row["corpus"]: row for row in facts["corpora"]}
    assert {name: row["images"] for name, row in rows.items()} == {"eyepacs": 24, "messidor": 40}
    assert {"taught", "labels_only", "teacher:big", "majority"} <= rows["messidor"]["arms"].keys()
    report = Path(made["report"]).read_text() if made["report"] else ""
    assert "| model | messidor (40 images) | eyepacs (24 images) |" in report


def test_a_second_run_finds_all_of_it(place: Place, made: dict[str, Any]) -> None:
    again = place.json("retrain", str(place.spec))
    assert set(states(again).values()) == {"Cached"}
    plan = place.json("plan", str(place.spec))
    assert {stage["state"] for stage in plan["stages"]} == {"cached"}


def test_the_registered_student_names_both_corpora(place: Place, made: dict[str, Any]) -> None:
    registered = manifest_of(place, "register")
    assert registered.facts["name"] == "two"
    assert {row["corpus"]: row["licence"] != "" for row in manifest_of(place, "combine").facts["corpora"]} == {
        "eyepacs": False,
        "messidor": True,
    }


def test_a_corpus_that_was_labelled_in_the_set_is_not_labelled_again_alone(place: Place, made: dict[str, Any]) -> None:
    corpus = Corpus(LocalStore(place.store), manifest_of(place, "combine"))
    assert len([shard for shard in corpus.shards if "/messidor/" in shard.output.name]) > 0
    verified = place.json("verify", "store")
    assert verified["defects"] == []


def test_classes_that_differ_are_refused_before_anything_is_decoded(place: Place, made: dict[str, Any]) -> None:
    done = place.run(
        "retrain",
        str(place.spec),
        *("--set", "corpora.1.label_map=null"),
        *("--set", "corpora.1.name=other"),
        *("--set", "store=fresh"),
    )
    assert done.returncode != 0
    assert "corpora: task of eyepacs: single; of other: ordinal" in done.stderr
    assert "label_map" in done.stderr
    assert not list((place.root / "fresh").glob("shards/**/*.tar"))


def test_forget_erases_from_the_training_set_too(place: Place, made: dict[str, Any]) -> None:
    store = LocalStore(place.store)
    combined = manifest_of(place, "combine")
    rows = [row for row in Corpus(store, combined).catalog.to_pylist() if row["corpus"] == "messidor"]
    key = next(row["key"] for row in rows if row["split"] == "train")
    done = place.json("forget", "store", "--key", key)
    assert done["models"] != []
    assert not [name for name in store.sizes("") if key.encode() in store.get(name)]
    assert list(store.sizes("manifests/combine/")) == []
    assert place.json("verify", "store")["defects"] == []
    again = states(place.json("retrain", str(place.spec), "--upto", "combine"))
    assert (again["ingest eyepacs"], again["combine"]) == ("Cached", "Completed")
    assert not [name for name in store.sizes("") if key.encode() in store.get(name)]
