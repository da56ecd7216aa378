"""CheXpert and ChestX-ray14 in their own layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import csv
from tests.tasks.corpora.public_layouts import CHESTXRAY_HEADER, CHEXPERT_HEADER, chestxray14, chexpert
from tests.tasks.corpora.scans import scan_of

FIVE = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
UNCERTAIN = "patient00002_study2_view1_frontal"


def scan(root: Path, adapter: str, **rest: object) -> Scan:
    return scan_of(CorpusSection.model_validate({"adapter": adapter, "root": str(root), **rest}))


def by_name(found: Scan) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def test_uncertain_findings_are_unknown_and_blank_ones_absent(tmp_path: Path) -> None:
    row = by_name(scan(chexpert(tmp_path), "chexpert", classes=["Edema", "Lung Opacity", "Pneumonia"]))[UNCERTAIN]
    assert row.labels == (-1, 1, 0)


@pytest.mark.parametrize(
    ("how", "labels"),
    [
        ({"uncertain": "ones"}, (1, 1, 1, 1, 1)),
        ({"uncertain": "zeros"}, (0, 0, 0, 0, 0)),
        ({"uncertain": {"Atelectasis": "ones", "Edema": "ones", "Cardiomegaly": "zeros"}}, (1, 0, -1, 1, -1)),
    ],
)
def test_uncertain_findings_count_as_the_spec_says(
    tmp_path: Path, how: dict[str, object], labels: tuple[int, ...]
) -> None:
    found = scan(chexpert(tmp_path), "chexpert", classes=FIVE, chexpert=how)
    assert by_name(found)[UNCERTAIN].labels == labels


def test_blank_findings_may_be_unknown(tmp_path: Path) -> None:
    found = scan(chexpert(tmp_path), "chexpert", classes=["Pneumonia"], chexpert={"unmentioned": "masked"})
    assert by_name(found)[UNCERTAIN].labels == (-1,)


def test_patient_exam_and_attributes_of_chexpert_are_read(tmp_path: Path) -> None:
    rows = by_name(scan(chexpert(tmp_path), "chexpert"))
    row = rows["patient00002_study1_view2_lateral"]
    assert (row.patient, row.exam, row.projection, row.sex, row.age) == (
        *("patient00002", "patient00002_study1"),
        *("lateral", "", "83"),
    )
    assert rows["patient00002_study1_view1_frontal"].projection == "PA"


def test_the_radiologists_images_are_the_test_split(tmp_path: Path) -> None:
    found = scan(chexpert(tmp_path), "chexpert")
    assert by_name(found)["patient64541_study1_view1_frontal"].split == "test"
    assert (found.official, len(found.classes), found.task) == ({"train", "test"}, 14, "multilabel")


@pytest.mark.parametrize("prefix", ["", "CheXpert-v1.0/", "./CheXpert-v1.0-small/"])
def test_paths_begin_anywhere(tmp_path: Path, prefix: str) -> None:
    assert {row.status for row in scan(chexpert(tmp_path, prefix), "chexpert").rows} == {"ok"}


def test_a_copy_with_underscores_in_its_header_is_read(tmp_path: Path) -> None:
    table = chexpert(tmp_path) / "valid.csv"
    table.write_text(table.read_text().replace("Pleural Effusion", "Pleural_Effusion"))
    assert by_name(scan(tmp_path, "chexpert"))["patient64541_study1_view1_frontal"].labels is not None


def test_a_table_of_another_header_names_the_columns(tmp_path: Path) -> None:
    csv(chexpert(tmp_path) / "train.csv", CHEXPERT_HEADER.replace("Edema,", ""), [])
    with pytest.raises(CorpusError, match=r"train\.csv: no column Edema; the columns Path, Sex"):
        scan(tmp_path, "chexpert")


def test_a_class_that_is_no_finding_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"Oedema is no finding of chexpert; it has No Finding, Enlarged"):
        scan(chexpert(tmp_path), "chexpert", classes=["Oedema"])


@pytest.mark.parametrize(
    ("header", "table"),
    [
        (CHESTXRAY_HEADER, "Data_Entry_2017_v2020.csv"),
        (CHESTXRAY_HEADER + ",", "Data_Entry_2017.csv"),
        (CHESTXRAY_HEADER.replace("Gender", "Sex"), "Data_Entry_2017.csv"),
    ],
)
def test_every_year_of_the_nih_table_is_read(tmp_path: Path, header: str, table: str) -> None:
    rows = by_name(scan(chestxray14(tmp_path, header, table), "chestx-ray14", classes=["Cardiomegaly", "Hernia"]))
    assert {name: row.labels for name, row in rows.items()} == {
        "00000001_000": (1, 0),
        "00000001_001": (1, 0),
        "00000002_000": (0, 0),
        "00000003_000": (0, 1),
    }
    row = rows["00000003_000"]
    assert (row.patient, row.sex, row.age, row.projection, row.exam) == ("3", "female", "74", "AP", "3-0")


def test_the_official_lists_are_the_split(tmp_path: Path) -> None:
    found = scan(chestxray14(tmp_path), "chestx-ray14")
    assert {name: row.split for name, row in by_name(found).items()} == {
        "00000001_000": "train",
        "00000001_001": "train",
        "00000002_000": "train",
        "00000003_000": "test",
    }
    assert (found.official, len(found.classes)) == ({"train", "test"}, 14)


def test_an_image_in_both_lists_is_quarantined(tmp_path: Path) -> None:
    with (chestxray14(tmp_path) / "test_list.txt").open("a") as file:
        file.write("00000001_000.png\n")
    row = by_name(scan(tmp_path, "chestx-ray14"))["00000001_000"]
    assert (row.status, row.reason) == ("quarantined", "it stands in test_list.txt and in the list of another split")


def test_one_list_alone_is_told(tmp_path: Path) -> None:
    (chestxray14(tmp_path) / "test_list.txt").unlink()
    found = scan(tmp_path, "chestx-ray14")
    assert found.notes == [
        "train_val_list.txt is there alone; the official split needs train_val_list.txt and test_list.txt"
    ]


def test_images_of_parts_that_are_not_there_are_counted(tmp_path: Path) -> None:
    for path in (chestxray14(tmp_path, lists=False) / "images_002").rglob("*.png"):
        path.unlink()
    found = scan(tmp_path, "chestx-ray14")
    assert sum(row.status == "missing" for row in found.rows) == 2
    assert found.notes[0].startswith("2 of 4 images that Data_Entry_2017_v2020.csv names are not in ")


def test_a_table_in_a_folder_of_its_own_finds_images_elsewhere(tmp_path: Path) -> None:
    chestxray14(tmp_path)
    for name in ("Data_Entry_2017_v2020.csv", "train_val_list.txt", "test_list.txt"):
        (tmp_path / "meta").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "meta" / name)
    found = scan(tmp_path, "chestx-ray14")
    assert {row.status for row in found.rows} == {"ok"}
    assert found.official == {"train", "test"}
