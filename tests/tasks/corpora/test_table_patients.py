"""Patients of a table's images."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tests.tasks.corpora.tables import by_path, scan

PATHS = ["patient001/study1/view1.png", "patient001/study2/view1.png", "patient002/study1/view1.png"]
ROWS = [f"{path},x" for path in PATHS]


def test_a_pattern_that_no_name_has_is_looked_for_in_the_path(tmp_path: Path) -> None:
    found = scan(tmp_path, ROWS, PATHS, patient_pattern=r"(patient\d+)/")
    assert [by_path(found)[path].patient for path in PATHS] == ["patient001", "patient001", "patient002"]


def test_a_pattern_that_names_have_is_not_looked_for_in_paths(tmp_path: Path) -> None:
    found = scan(tmp_path, ["7_a,x", "b,x"], ["9/7_a.png", "9/b.png"], patient_pattern=r"(\d+)")
    assert {path: row.patient for path, row in by_path(found).items()} == {"9/7_a.png": "7", "9/b.png": ""}


def test_a_pattern_that_neither_names_nor_paths_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"matches no image's name or path, for instance not 'patient001/study1"):
        scan(tmp_path, ROWS, PATHS, patient_pattern=r"(subject\d+)")


def _patients(root: Path, patients: list[str]) -> tuple[list[str], list[str]]:
    rows = [f"i{n},x,{patient}" for n, patient in enumerate(patients)]
    images = [f"i{n}.png" for n in range(len(patients))]
    found = scan(root, rows, images, header="name,label,who", patient="who")
    return [by_path(found)[path].patient for path in images], found.notes


@pytest.mark.parametrize("word", ["nan", "Unknown", "ANONYMOUS", "-"])
def test_a_word_for_nobody_that_several_images_have_is_no_patient(tmp_path: Path, word: str) -> None:
    patients, notes = _patients(tmp_path, ["P1", word, word, "P2"])
    assert patients == ["P1", "", "", "P2"]
    assert notes[0] == f"patient {word!r} stands for nobody: 2 rows, each image counts as a patient of its own"


def test_a_word_for_nobody_that_one_image_has_makes_no_difference(tmp_path: Path) -> None:
    assert _patients(tmp_path, ["P1", "unknown"]) == (["P1", "unknown"], [])


def test_zero_that_many_images_have_is_no_patient(tmp_path: Path) -> None:
    patients, notes = _patients(tmp_path, ["0"] * 16 + ["1", "1", "2"])
    assert patients == [""] * 16 + ["1", "1", "2"]
    assert notes[0].startswith("patient '0' stands for nobody: 16 rows")


def test_zero_that_a_tenth_of_all_images_has_is_no_patient(tmp_path: Path) -> None:
    patients, notes = _patients(tmp_path, ["0000"] * 12 + [f"{n // 3}x" for n in range(36)])
    assert set(patients[:12]) == {""}
    assert notes[0].startswith("patient '0000' stands for nobody: 12 rows")


def test_a_patient_of_a_fifth_of_all_images_is_told(tmp_path: Path) -> None:
    patients, notes = _patients(tmp_path, ["x"] * 12 + [f"{n // 3}y" for n in range(36)])
    assert patients[0] == "x"
    assert notes == [
        "patient 'x' stands for 12 of 48 images that have a patient; if it is nobody, leave its cells blank"
    ]


def test_patients_of_many_images_each_are_not_told(tmp_path: Path) -> None:
    assert _patients(tmp_path, ["A"] * 14 + ["B"] * 12 + ["C"] * 11)[1] == []


def test_zero_that_few_images_have_is_a_patient(tmp_path: Path) -> None:
    assert _patients(tmp_path, ["0", "0", "1", "1"]) == (["0", "0", "1", "1"], [])


@pytest.mark.parametrize(
    ("one", "other"), [("P7", "p7"), ("7", "7.0"), ("007", "7"), ("A B", "A  B"), ("x-1", "x\u20131")]
)
def test_spellings_of_one_patient_are_one_patient_with_a_note(tmp_path: Path, one: str, other: str) -> None:
    patients, notes = _patients(tmp_path, [one, one, other, "q"])
    assert patients == [one, one, one, "q"]
    assert notes[0].startswith("1 patients are spelled in several ways (case, blanks, form) and are one each; first ")


def test_nobody_by_a_pattern_is_no_patient(tmp_path: Path) -> None:
    paths = ["anon_1.png", "anon_2.png", "7_1.png"]
    found = scan(tmp_path, [f"{path},x" for path in paths], paths, patient_pattern=r"^([^_]+)_")
    assert [by_path(found)[path].patient for path in paths] == ["", "", "7"]
