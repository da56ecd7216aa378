"""What init guesses on the real subsets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tasks.proposal.proposal import write_spec
from tests.tasks.proposal.folders import read_back

pytestmark = pytest.mark.real


def test_imo_fundus(real_data: Path, tmp_path: Path) -> None:
    spec, scan = read_back(write_spec(real_data / "imo-fundus", tmp_path / "imo.yaml"))
    table = spec.corpus.table
    assert table is not None
    assert (table.image, table.label, table.unlabelled) == ("Name", "DME", ["-"])
    assert len({row.patient for row in scan.rows}) == 301
    assert "# label: DR" in (tmp_path / "imo.yaml").read_text()
    assert (spec.views.rotate, spec.views.size, spec.student.size) == (180, 192, None)


def test_imo_fundus_runs_on_its_other_label(real_data: Path, tmp_path: Path) -> None:
    write_spec(real_data / "imo-fundus", tmp_path / "imo.yaml")
    text = (tmp_path / "imo.yaml").read_text()
    text = text.replace("label: DME", "label: DR").replace('classes: ["0", "1"]', 'classes: ["0", NPDR, PDR]', 1)
    (tmp_path / "dr.yaml").write_text(text)
    _, scan = read_back({"spec": tmp_path / "dr.yaml"})
    assert Counter(row.label for row in scan.rows) == {-1: 274, 0: 78, 1: 22, 2: 6}


def test_chestx_ray14(real_data: Path, tmp_path: Path) -> None:
    spec, scan = read_back(write_spec(real_data / "chestx-ray14", tmp_path / "chest.yaml"))
    table = spec.corpus.table
    assert table is not None
    assert (table.patient, table.label) == ("Patient ID", "Finding Labels")
    assert table.split_lists == {"train": "train_val_list.txt", "test": "test_list.txt"}
    assert (scan.task, scan.classes) == ("single", ("No Finding", "Pneumonia"))
    assert not spec.views.hflip


def test_hyper_kvasir(real_data: Path, tmp_path: Path) -> None:
    found = write_spec(real_data / "hyper-kvasir", tmp_path / "kvasir.yaml")
    _, scan = read_back(found)
    assert found["adapter"] == "hyper-kvasir"
    assert len(scan.classes) == 5
    assert "2_fold_split.csv" in (tmp_path / "kvasir.yaml").read_text()
