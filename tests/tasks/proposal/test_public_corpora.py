"""`stillroom init` on public corpora as they are downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.corpora.label_maps import MAPS
from tasks.proposal.proposal import write_spec
from tests.tasks.corpora.layouts import csv
from tests.tasks.corpora.public_layouts import CHESTXRAY_HEADER, PUBLIC
from tests.tasks.proposal.folders import images, read_back


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "work" / "own.yaml"


@pytest.mark.parametrize(
    ("name", "modality", "task"),
    [
        ("aptos", "fundus", "ordinal"),
        ("messidor", "fundus", "ordinal"),
        ("messidor-2", "fundus", "ordinal"),
        ("idrid", "fundus", "ordinal"),
        ("ddr", "fundus", "ordinal"),
        ("isic-2018", "other", "single"),
        ("isic-2019", "other", "single"),
        ("pad-ufes-20", "other", "single"),
        ("kvasir", "endoscopy", "single"),
        ("chexpert", "xray", "multilabel"),
        ("chestx-ray14", "xray", "multilabel"),
    ],
)
def test_public_corpora(tmp_path: Path, to: Path, name: str, modality: str, task: str) -> None:
    found = write_spec(PUBLIC[name](tmp_path / "c"), to)
    _, scan = read_back(found)
    assert (found["adapter"], scan.modality, scan.task) == (name, modality, task)


def test_findings_that_hardly_occur_are_left_out_of_the_classes(tmp_path: Path, to: Path) -> None:
    found = [("Mass", "Nodule", "Mass|Nodule", "No Finding")[i % 4] for i in range(40)] + ["Hernia"]
    rows = [
        f"{i:08d}_000.png,{own},0,{i},{40 + i % 30},{'MF'[i % 2]},PA,2500,2048,0.171,0.171"
        for i, own in enumerate(found)
    ]
    images(tmp_path / "c", [row.partition(",")[0] for row in rows])
    csv(tmp_path / "c/Data_Entry_2017.csv", CHESTXRAY_HEADER, rows)
    spec, _ = read_back(write_spec(tmp_path / "c", to))
    assert (spec.corpus.adapter, spec.corpus.classes) == ("chestx-ray14", ["Mass", "Nodule"])


def test_a_chest_corpus_of_one_finding_an_image_is_a_table_of_classes(tmp_path: Path, to: Path) -> None:
    found = ["No Finding", "Pneumonia"] * 20
    rows = [
        f"{i:08d}_000.png,{own},0,{i},{40 + i % 30},{'MF'[i % 2]},PA,2500,2048,0.171,0.171"
        for i, own in enumerate(found)
    ]
    images(tmp_path / "c", [row.partition(",")[0] for row in rows])
    csv(tmp_path / "c/Data_Entry_2017.csv", CHESTXRAY_HEADER, rows)
    spec, scan = read_back(write_spec(tmp_path / "c", to))
    assert (spec.corpus.adapter, scan.task, scan.classes) == ("table", "single", ("No Finding", "Pneumonia"))


@pytest.mark.parametrize(
    ("name", "label_map", "rest"),
    [
        ("idrid", "referable", "or any-retinopathy, referable-or-oedema; then without task and classes"),
        ("ddr", "referable", "or any-retinopathy; then without task and classes"),
        ("chexpert", "competition", "or all; then without task and classes"),
    ],
)
def test_the_maps_of_a_corpus_are_proposed_and_what_is_proposed_is_read(
    tmp_path: Path, to: Path, name: str, label_map: str, rest: str
) -> None:
    found = write_spec(PUBLIC[name](tmp_path / "c"), to)
    line = next(line for line in to.read_text().splitlines() if "label_map" in line)
    assert (line.split()[:3], line.endswith(rest)) == (["#", "label_map:", label_map], True)
    chosen = to.read_text().replace(line, f"  label_map: {label_map}").replace("  task: ordinal", "  # task: ordinal")
    to.write_text(chosen.replace("  classes:", "  # classes:"))
    _, scan = read_back(found)
    assert scan.classes == MAPS[name][label_map].classes
