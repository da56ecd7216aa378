"""ISIC 2018, ISIC 2019 and PAD-UFES-20 in their own layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import csv
from tests.tasks.corpora.public_layouts import isic2018, isic2019, pad_ufes20
from tests.tasks.corpora.scans import scan_of
from tests.tasks.sources.packing import zip_of


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


@pytest.mark.parametrize("nested", [False, True])
def test_the_parts_of_isic2018_are_its_splits_and_lesions_keep_images_together(tmp_path: Path, nested: bool) -> None:
    found = scan(isic2018(tmp_path, nested), "isic-2018")
    assert {name: (row.label, row.split, row.patient) for name, row in by_name(found).items()} == {
        "ISIC_0024306": (1, "train", "HAM_0000550"),
        "ISIC_0024307": (1, "train", "HAM_0000550"),
        "ISIC_0024310": (0, "train", "HAM_0003521"),
        "ISIC_0034321": (3, "val", ""),
        "ISIC_0034524": (6, "test", ""),
    }
    assert (found.official, found.notes) == ({"train", "val", "test"}, [])


def test_isic2018_is_read_as_it_is_downloaded(tmp_path: Path) -> None:
    isic2018(tmp_path / "plain", nested=True)
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in (tmp_path / "plain").iterdir():
        if path.is_dir():
            zip_of(path, packed / f"{path.name}.zip", within=f"{path.name}/")
        else:
            path.rename(packed / path.name)
    plain = scan(isic2018(tmp_path / "again", nested=True), "isic-2018")
    assert [(r.name, r.label, r.split) for r in scan(packed, "isic-2018").rows] == [
        (r.name, r.label, r.split) for r in plain.rows
    ]


def test_test_images_of_isic2018_without_their_table_are_the_pool(tmp_path: Path) -> None:
    (isic2018(tmp_path) / "ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    found = scan(tmp_path, "isic-2018")
    row = by_name(found)["ISIC_0034524"]
    assert (row.label, row.split, found.official) == (-1, "", {"train", "val"})
    assert found.notes == [
        "no ISIC2018_Task3_Test_GroundTruth.csv: images of ISIC2018_Task3_Test_Input/ are the unlabelled pool"
    ]


def test_training_images_of_isic2018_without_their_table_are_an_error(tmp_path: Path) -> None:
    table = isic2018(tmp_path) / "ISIC2018_Task3_Training_GroundTruth.csv"
    table.rename(table.with_name("labels.csv"))
    with pytest.raises(CorpusError, match=r"Training_GroundTruth\.csv: no such file, although ISIC2018_Task3_T"):
        scan(tmp_path, "isic-2018")


def test_a_table_of_isic2018_without_its_images_is_told(tmp_path: Path) -> None:
    (isic2018(tmp_path) / "ISIC2018_Task3_Validation_Input/ISIC_0034321.jpg").unlink()
    assert scan(tmp_path, "isic-2018").notes == [
        "ISIC2018_Task3_Validation_GroundTruth.csv is there, but no ISIC2018_Task3_Validation_Input/: its images are "
        "not here"
    ]


def test_lesions_of_isic2018_that_are_not_known_are_counted(tmp_path: Path) -> None:
    table = isic2018(tmp_path) / "ISIC2018_Task3_Training_LesionGroupings.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    found = scan(tmp_path, "isic-2018")
    assert (by_name(found)["ISIC_0024310"].patient, by_name(found)["ISIC_0024306"].patient) == ("", "HAM_0000550")
    assert found.notes == [f"1 training images have no lesion in {table.name}; each counts as a lesion of its own"]


def test_without_lesions_isic2018_says_so(tmp_path: Path) -> None:
    (isic2018(tmp_path) / "ISIC2018_Task3_Training_LesionGroupings.csv").unlink()
    assert scan(tmp_path, "isic-2018").notes == [
        "no ISIC2018_Task3_Training_LesionGroupings.csv: images of one lesion are not known as such"
    ]


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ("1.0,1.0,0.0,0.0,0.0,0.0,0.0", "MEL and NV"),
        ("0.0,0.0,0.0,0.0,0.0,0.0,0.0", "no column"),
        ("0.0,0.7,0.0,0.0,0.3,0.0,0.0", "NV 0.7 and BKL 0.3"),
    ],
)
def test_a_row_of_isic2018_that_marks_no_one_diagnosis_is_quarantined(tmp_path: Path, cells: str, text: str) -> None:
    table = isic2018(tmp_path) / "ISIC2018_Task3_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("ISIC_0024310,1.0,0.0,0.0,0.0,0.0,0.0,0.0", f"ISIC_0024310,{cells}"))
    row = by_name(scan(tmp_path, "isic-2018"))["ISIC_0024310"]
    assert (row.label, row.status) == (-1, "quarantined")
    assert f"line 4: label '{text}' is outside the classes" in row.reason


def test_a_row_of_isic2018_without_an_image_and_an_image_without_a_row_are_kept_apart(tmp_path: Path) -> None:
    folder = isic2018(tmp_path) / "ISIC2018_Task3_Training_Input"
    (folder / "ISIC_0024310.jpg").rename(folder / "ISIC_0099999.jpg")
    found = scan(tmp_path, "isic-2018")
    rows = by_name(found)
    assert (rows["ISIC_0024310"].status, rows["ISIC_0099999"].status) == ("missing", "ok")
    assert (rows["ISIC_0099999"].label, rows["ISIC_0099999"].patient) == (-1, "")
    assert found.notes == [
        "1 of 3 images that ISIC2018_Task3_Training_GroundTruth.csv names are not in ISIC2018_Task3_Training_Input/; "
        "first ISIC2018_Task3_Training_GroundTruth.csv line 4"
    ]
