"""APTOS, Messidor and Messidor-2 in their own layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tests.tasks.corpora.layouts import csv, eyepacs
from tests.tasks.corpora.public_layouts import aptos, aptos_split_again, idrid, messidor, messidor2, workbook
from tests.tasks.corpora.scans import scan_of
from tests.tasks.sources.packing import zip_of


def scan(root: Path, adapter: str, **rest: object) -> Scan:
    return scan_of(CorpusSection(adapter=adapter, root=str(root), **rest))  # type: ignore[arg-type]


def by_name(found: Scan) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def test_aptos_has_grades_and_its_test_images_are_the_pool(tmp_path: Path) -> None:
    found = scan(aptos(tmp_path), "aptos")
    labels = {"000c1434d8d7": 2, "001639a390f0": 4, "0024cdab0c1e": 1, "002c21358ce6": 0, "0005cfc8afb6": -1}
    assert {name: row.label for name, row in by_name(found).items()} == labels
    assert (found.task, found.modality, found.official) == ("ordinal", "fundus", frozenset())


def test_aptos_of_three_parts_keeps_its_splits(tmp_path: Path) -> None:
    found = scan(aptos_split_again(tmp_path), "aptos")
    assert {name: row.split for name, row in by_name(found).items()} == {"a0": "train", "a1": "val", "a2": "test"}
    assert found.official == {"train", "val", "test"}


def test_aptos_with_another_header_says_what_is_expected(tmp_path: Path) -> None:
    csv(aptos(tmp_path) / "train.csv", "image,diagnosis", ["a,1"])
    with pytest.raises(CorpusError, match=r"train\.csv: no column id_code; the columns id_code, diagnosis are"):
        scan(tmp_path, "aptos")


def test_a_part_that_is_not_downloaded_is_counted(tmp_path: Path) -> None:
    (aptos(tmp_path) / "train_images/001639a390f0.png").unlink()
    found = scan(tmp_path, "aptos")
    assert by_name(found)["001639a390f0"].status == "missing"
    assert found.notes == ["1 of 4 images that train.csv names are not in train_images/; first train.csv line 3"]


def test_messidor_has_its_own_grades_sites_and_dates(tmp_path: Path) -> None:
    row = by_name(scan(messidor(tmp_path), "messidor"))["20051019_38557_0100_PP"]
    assert (row.label, row.site, row.date) == (3, "Service Ophtalmologie Lariboisière", "2005-10-19")


def test_the_errata_of_messidor_are_applied(tmp_path: Path) -> None:
    found = scan(messidor(tmp_path), "messidor")
    rows = by_name(found)
    assert rows["20051020_63045_0100_PP"].label == 0
    copy = rows["20051202_54744_0400_PP"]
    assert (copy.status, copy.reason) == ("quarantined", "by Messidor's errata a copy of another image of Base33")
    assert found.notes == ["1 grades are those of Messidor's errata", "2 of 12 bases are here: Base11, Base33"]


def test_messidor_is_read_as_it_is_downloaded(tmp_path: Path) -> None:
    messidor(tmp_path / "plain", {"11": {"20051019_38557_0100_PP": 3}, "12": {"20051020_43808_0100_PP": 1}})
    packed = tmp_path / "packed"
    packed.mkdir()
    for base in ("11", "12"):
        zip_of(tmp_path / f"plain/Base{base}", packed / f"Base{base}.zip")
        sheet = tmp_path / f"plain/Annotation_Base{base}.xls"
        sheet.rename(packed / f"Annotation Base{base}.xls")
    labels = {name: row.label for name, row in by_name(scan(packed, "messidor")).items()}
    assert labels == {"20051019_38557_0100_PP": 3, "20051020_43808_0100_PP": 1}


def test_a_base_without_its_sheet_is_an_error(tmp_path: Path) -> None:
    (messidor(tmp_path) / "Annotation_Base33.xls").unlink()
    with pytest.raises(
        CorpusError, match=r"2 images stand in none of the 1 sheets, first Base33/20051202_37830_0400_PP\.tif"
    ):
        scan(tmp_path, "messidor")


def test_a_renamed_column_of_a_sheet_is_an_error(tmp_path: Path) -> None:
    messidor(tmp_path, column="Grade")
    with pytest.raises(CorpusError, match=r"Annotation_Base11\.xls: no column Retinopathy grade; the columns Image"):
        scan(tmp_path, "messidor")


def test_a_sheet_that_is_no_workbook_is_an_error(tmp_path: Path) -> None:
    (messidor(tmp_path) / "Annotation_Base11.xls").write_bytes(b"<html>")
    with pytest.raises(CorpusError, match=r"Annotation_Base11\.xls: no workbook that can be read"):
        scan(tmp_path, "messidor")


def test_a_workbook_of_two_filled_sheets_is_an_error(tmp_path: Path) -> None:
    import xlwt

    book = xlwt.Workbook()
    for name in ("Feuil1", "old"):
        book.add_sheet(name).write(0, 0, "Image name")
    book.save(str(messidor(tmp_path) / "Annotation_Base11.xls"))
    with pytest.raises(CorpusError, match=r"one sheet with cells is expected; it has Feuil1, old"):
        scan(tmp_path, "messidor")


def test_a_workbook_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    data = workbook([["Image name"]], "Feuil1")
    path = messidor(tmp_path) / "Annotation_Base11.xls"
    for length in range(0, len(data) - 1024, 512):
        path.write_bytes(data[:length])
        with pytest.raises(CorpusError, match=r"Annotation_Base11\.xls"):
            scan(tmp_path, "messidor")


def test_both_eyes_of_an_exam_of_messidor2_stay_together(tmp_path: Path) -> None:
    rows = by_name(scan(messidor2(tmp_path), "messidor-2"))
    found = {(row.patient, row.exam, row.eye) for row in rows.values()}
    left = "20051020_43808_0100_pp"
    assert found == {
        (left, left, "left"),
        (left, left, "right"),
        ("im000004", "im000004", "left"),
        ("im000004", "im000004", "right"),
    }


def test_an_image_that_cannot_be_graded_is_kept_without_a_label(tmp_path: Path) -> None:
    rows = {row.path: row for row in scan(messidor2(tmp_path), "messidor-2").rows}
    assert (rows["IMAGES/IM000005.JPG"].label, rows["IMAGES/IM000005.JPG"].gradable) == (-1, "no")
    assert (rows["IMAGES/IM000004.JPG"].label, rows["IMAGES/IM000004.JPG"].gradable) == (4, "yes")


def test_messidor2_without_its_grades_says_where_they_are(tmp_path: Path) -> None:
    (messidor2(tmp_path) / "messidor_data.csv").unlink()
    with pytest.raises(CorpusError, match=r"messidor_data\.csv: no such file; messidor-2\.csv has no grades"):
        scan(tmp_path, "messidor-2")


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [("messidor", {0: 3, 1: 1}), ("aptos", {0: 2, 1: 2}), ("messidor-2", {0: 1, 1: 2, -1: 1})],
)
def test_grades_of_any_scale_become_referable_or_not(tmp_path: Path, adapter: str, expected: dict[int, int]) -> None:
    {"messidor": messidor, "aptos": aptos, "messidor-2": messidor2}[adapter](tmp_path)
    found = scan(tmp_path, adapter, label_map="referable")
    labels = [row.label for row in found.rows if row.name != "0005cfc8afb6"]
    if adapter == "messidor":
        labels += [0]  # the copy has none
        labels.remove(-1)
    assert {label: labels.count(label) for label in set(labels)} == expected
    assert (found.task, found.classes) == ("single", ("not referable", "referable"))


def test_a_map_that_makes_another_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.task ordinal: the map 'referable' makes single; leave it out"):
        scan(eyepacs(tmp_path, {"1_left": 1}), "eyepacs", label_map="referable", task="ordinal")


def test_images_of_the_same_name_in_both_sets_of_idrid_are_two(tmp_path: Path) -> None:
    found = scan(idrid(tmp_path), "idrid")
    rows = {(row.split, row.name): row.label for row in found.rows}
    assert rows == {("train", "IDRiD_001"): 3, ("train", "IDRiD_002"): 0, ("test", "IDRiD_001"): 1}
    assert found.official == {"train", "test"}


def test_a_set_of_idrid_without_its_images_is_an_error(tmp_path: Path) -> None:
    for path in (idrid(tmp_path) / "B. Disease Grading/1. Original Images/b. Testing Set").iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match=r"no image in 1\. Original Images/b\. Testing Set/, although b\. IDRiD"):
        scan(tmp_path, "idrid")
