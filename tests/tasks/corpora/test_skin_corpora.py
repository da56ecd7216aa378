"""ISIC 2019 and PAD-UFES-20 in their own layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import csv
from tests.tasks.corpora.public_layouts import isic2019, pad_ufes20
from tests.tasks.corpora.scans import scan_of


def scan(root: Path, adapter: str, **rest: object) -> Scan:
    return scan_of(CorpusSection.model_validate({"adapter": adapter, "root": str(root), **rest}))


def by_name(found: Scan) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def test_the_marked_column_is_the_class_and_the_lesion_keeps_images_together(tmp_path: Path) -> None:
    found = scan(isic2019(tmp_path), "isic-2019")
    rows = by_name(found)
    assert {name: row.label for name, row in rows.items()} == {
        "ISIC_0000000": 1,
        "ISIC_0000001": 1,
        "ISIC_0000002": 0,
        "ISIC_0034321": -1,
    }
    assert (rows["ISIC_0000000"].patient, rows["ISIC_0000001"].patient) == ("HAM_1", "HAM_1")
    assert (rows["ISIC_0000002"].patient, rows["ISIC_0000002"].age, rows["ISIC_0000002"].sex) == ("", "55", "female")
    assert found.official == {"train", "test"}


def test_test_images_without_their_table_are_the_pool(tmp_path: Path) -> None:
    (isic2019(tmp_path) / "ISIC_2019_Test_GroundTruth.csv").unlink()
    found = scan(tmp_path, "isic-2019")
    assert (by_name(found)["ISIC_0034321"].split, found.official) == ("", frozenset())


def test_an_image_of_two_diagnoses_is_quarantined(tmp_path: Path) -> None:
    table = isic2019(tmp_path) / "ISIC_2019_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("ISIC_0000002,1.0,0.0", "ISIC_0000002,1.0,1.0"))
    row = by_name(scan(tmp_path, "isic-2019"))["ISIC_0000002"]
    assert row.status == "quarantined"
    assert "label 'MELNV' is outside the classes" in row.reason


def test_photographs_of_lesions_have_patients_and_diagnoses(tmp_path: Path) -> None:
    rows = by_name(scan(pad_ufes20(tmp_path), "pad-ufes-20"))
    row = rows["PAT_151_1771_821"]
    assert (row.label, row.patient, row.exam, row.age, row.sex) == (3, "PAT_151", "1771", "68", "female")
    assert rows["PAT_150_1770_820"].label == 1


def test_a_table_of_another_corpus_names_the_columns(tmp_path: Path) -> None:
    csv(pad_ufes20(tmp_path) / "metadata.csv", "image,label", ["a,1"])
    with pytest.raises(CorpusError, match=r"no column patient_id, lesion_id, age, gender, diagnostic, img_id"):
        scan(tmp_path, "pad-ufes-20")
