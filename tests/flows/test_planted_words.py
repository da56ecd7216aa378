"""Words of a private corpus are found nowhere after a whole retrain and three ingests that fail.

Searched: names and bytes of store and home; the tables and databases in them (Prefect's runs, states, logs and
artifacts, MLflow's parameters, tags and artifacts), base64 decoded; the servers' logs; both streams of every command.
Not searched: the corpus, and the owner's folder of secrets and details.
"""

from __future__ import annotations

import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.databases import shared_api
from tests.line import Place
from tests.planted import findings
from tests.tasks.corpora.layouts import csv, image

WORD = "Mustermann"
HEADER = "name,label,patient,split"
SPEC = """
name: hospital
store: store
corpus:
  adapter: table
  root: {root}
  name: ours
  private: true
  classes: ["x", "y"]
  table: {{csv: labels.csv, image: name, label: label, patient: patient, split: split}}
ingest: {{size: 32, shard_size: 16}}
views: {{size: 32, count: 1}}
teachers:
  - {{name: big, model: micro, train: {{steps: 4, batch: 8, lr: 0.005, checkpoint_every: 4}}}}
student:
  model: micro_xs
  train: {{steps: 4, batch: 8, lr: 0.005, checkpoint_every: 4}}
  seeds: [0]
evaluate: {{bootstrap: 20}}
run: {{device: cpu, cluster: {{workers: 1}}}}
"""


@dataclass(frozen=True)
class Searched:
    """What was run, and where."""

    place: Place
    runs: dict[str, subprocess.CompletedProcess[str]]


def drawn(root: Path, *more: str) -> Path:
    """30 patients, both eyes; `more` are rows of the table after theirs."""
    names = [f"{WORD}{p}_{eye}" for p in range(10, 40) for eye in "lr"]
    for seed, name in enumerate(names):
        image(root / f"{name}.jpg", seed, 40, 36)
    (root / f"{WORD}98_l.jpg").write_bytes(b"patient " + WORD.encode())
    rows = [f"{n},{'xy'[i // 2 % 2]},{WORD} {i // 2}," for i, n in enumerate(names)]
    rows[0] = f"{names[0]},{WORD}'s finding,{WORD} 0,"
    csv(root / "labels.csv", HEADER, [*rows, f"{names[2]},{WORD},{WORD} 1,", f"{WORD}99_l,x,{WORD} 99,", *more])
    return root


def cut_archive(place: Path) -> Path:
    with zipfile.ZipFile(place, "w") as packed:
        packed.writestr(f"{WORD}.jpg", b"1" * 5000)
    place.write_bytes(place.read_bytes()[:-30])
    return place


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    place = Place(tmp_path_factory.mktemp("private"))
    corpora = tmp_path_factory.mktemp("corpora")
    roots = {
        "whole": drawn(corpora / WORD),
        "wide-row": drawn(corpora / f"{WORD}-wide", f"{WORD}40_l,x,{WORD} 40,,{WORD}"),
        "odd-split": drawn(corpora / f"{WORD}-split", f"{WORD}40_l,x,{WORD} 40,{WORD}"),
        "cut-archive": cut_archive(corpora / f"{WORD}.zip"),
    }
    runs = {}
    # One server for all four, over the home and with its log there, as each would start it for itself.
    with shared_api(place.root / "home") as place.api:
        for name, root in roots.items():
            spec = place.root / f"{name}.yaml"
            spec.write_text(SPEC.format(root=root))
            runs[name] = place.run("retrain" if name == "whole" else "ingest", str(spec), "--json")
    return Searched(place, runs)


@pytest.mark.slow
def test_the_retrain_ends_and_the_ingests_fail(searched: Searched) -> None:
    codes = {name: run.returncode for name, run in searched.runs.items()}
    assert codes == {"whole": 0, "wide-row": 2, "odd-split": 2, "cut-archive": 2}, searched.runs["whole"].stderr[-3000:]


@pytest.mark.slow
def test_no_command_prints_a_word(searched: Searched) -> None:
    printed = {name: (run.stdout + run.stderr).lower() for name, run in searched.runs.items()}
    assert [name for name, text in printed.items() if WORD.lower() in text] == []


@pytest.mark.slow
def test_store_home_and_logs_hold_no_word(searched: Searched) -> None:
    place = searched.place
    assert sum(path.is_file() for path in (place.root / "home").rglob("*.db")) >= 2
    assert findings([place.store, place.root / "home"], [WORD]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide-row", "odd-split", "cut-archive"])
def test_an_error_names_the_file_that_says_more(searched: Searched, name: str) -> None:
    log = searched.place.root / "home-private/ours.log"
    assert str(log) in searched.runs[name].stderr
    assert WORD in log.read_text()
