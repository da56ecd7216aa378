"""Label maps: what each makes of the labels of its corpora, and what becomes of labels that it does not cover."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.errors import CorpusError
from tasks.corpora import descriptions
from tasks.corpora.chestxray14 import FINDINGS as CHESTXRAY14
from tasks.corpora.hyper_kvasir import OTHER_NAMES
from tasks.corpora.kvasir import CLASSES as KVASIR
from tasks.corpora.label_maps import HYPER_KVASIR, MAPS
from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection
from tasks.spec.label_maps import LABEL_MAPS
from tests.tasks.corpora.layouts import eyepacs, folds, hyper_kvasir
from tests.tasks.corpora.public_layouts import aptos, chestxray14, chexpert, idrid, kvasir, messidor, messidor2
from tests.tasks.corpora.scans import scan_of

REFERABLE = ("not referable", "referable")


def scan(root: Path, adapter: str, **rest: object) -> Scan:
    return scan_of(CorpusSection.model_validate({"adapter": adapter, "root": str(root), **rest}))


def by_name(found: Scan) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def labels(found: Scan) -> dict[str, int]:
    return {row.name: row.label for row in found.rows}


def test_the_spec_knows_the_maps_of_every_adapter() -> None:
    assert {name: tuple(own) for name, own in MAPS.items()} == LABEL_MAPS


def test_every_map_gives_each_of_its_classes_to_some_label() -> None:
    assert [
        (adapter, name)
        for adapter, own in MAPS.items()
        for name, found in own.items()
        if set(found.labels.values()) != set(found.classes)
    ] == []


@pytest.mark.parametrize(
    ("adapter", "name", "message"),
    [
        ("eyepacs", "refer", "no such map of eyepacs; there are any-retinopathy, referable"),
        (
            *("aptos", "referable-or-oedema"),
            "no such map of aptos; aptos has no column on macular oedema; there are any-retinopathy, referable",
        ),
        ("kvasir", "kvasir", "kvasir knows no maps; they are of aptos, chestx-ray14, chexpert, ddr, eyepacs"),
        ("chexpert", "eight", "no such map of chexpert; there are all, competition"),
    ],
)
def test_a_map_that_the_adapter_does_not_know_is_an_error_of_the_spec(adapter: str, name: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CorpusSection.model_validate({"adapter": adapter, "root": "x", "label_map": name})


def test_outside_needs_a_map() -> None:
    with pytest.raises(ValidationError, match=r"corpus\.outside is for what a corpus\.label_map does not cover"):
        CorpusSection.model_validate({"adapter": "eyepacs", "root": "x", "outside": "unlabelled"})


def test_the_default_of_outside_enters_no_key() -> None:
    sections = [
        CorpusSection.model_validate({"adapter": "eyepacs", "root": "x", "label_map": "referable", **rest})
        for rest in ({}, {"outside": "refuse"}, {"outside": "unlabelled"})
    ]
    assert sections[0].identity() == sections[1].identity()
    assert sections[2].identity() == {**sections[0].identity(), "outside": "unlabelled"}


def test_the_maps_of_an_adapter_stand_in_its_description() -> None:
    known = descriptions()
    assert "  referable: grade 2 or higher (Gulshan et al. 2016)\n    not referable, referable\n" in known["eyepacs"]
    assert "  all: the 23 classes of the official folds (Borgli et al. 2020)\n  kvasir: " in known["hyper-kvasir"]
    assert "Label maps" not in known["kvasir"]


def test_a_map_that_makes_other_classes_than_the_spec_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.classes: the map 'referable' makes not referable, referable"):
        scan(eyepacs(tmp_path, {"1_left": 1}), "eyepacs", label_map="referable", classes=["a", "b"])


@pytest.mark.parametrize(
    ("adapter", "expected"), [("messidor", [-1, 0, 1, 1]), ("aptos", [-1, 0, 1, 1, 1]), ("messidor-2", [-1, 0, 1, 1])]
)
def test_any_retinopathy_is_what_both_scales_can_say(tmp_path: Path, adapter: str, expected: list[int]) -> None:
    {"messidor": messidor, "aptos": aptos, "messidor-2": messidor2}[adapter](tmp_path)
    found = scan(tmp_path, adapter, label_map="any-retinopathy")
    assert sorted(row.label for row in found.rows) == expected
    assert found.classes == ("no retinopathy", "retinopathy")


@pytest.mark.parametrize(("risk", "label"), [(0, 0), (1, 0), (2, 1)])
def test_oedema_near_the_macula_is_referable_in_messidor(tmp_path: Path, risk: int, label: int) -> None:
    names = {"11": {"20051019_38557_0100_PP": 1, "20051020_43808_0100_PP": 2}}
    found = scan(messidor(tmp_path, names, risk=risk), "messidor", label_map="referable-or-oedema")
    assert labels(found) == {"20051019_38557_0100_PP": label, "20051020_43808_0100_PP": 1}
    assert (found.task, found.classes) == ("single", REFERABLE)


def test_oedema_is_referable_in_messidor2(tmp_path: Path) -> None:
    table = messidor2(tmp_path) / "messidor_data.csv"
    table.write_text(table.read_text().replace("43808_0100_PP.png,0,0,1", "43808_0100_PP.png,0,1,1"))
    found = labels(scan(tmp_path, "messidor-2", label_map="referable-or-oedema"))
    assert found == {
        "20051020_43808_0100_pp": 1,
        "20051020_43832_0100_pp": 1,
        "im000004": 1,
        "im000005": -1,
    }


def test_oedema_is_referable_in_both_sets_of_idrid(tmp_path: Path) -> None:
    found = scan(idrid(tmp_path), "idrid", label_map="referable-or-oedema")
    assert [row.label for row in found.rows] == [1, 1, 1]


def test_an_image_without_a_grade_of_oedema_is_unlabelled_unless_its_retinopathy_decides(tmp_path: Path) -> None:
    table = messidor2(tmp_path) / "messidor_data.csv"
    table.write_text(table.read_text().replace(".png,0,0,1", ".png,0,,1").replace(".jpg,4,0,1", ".jpg,4,,1"))
    found = scan(tmp_path, "messidor-2", label_map="referable-or-oedema")
    assert (labels(found)["20051020_43808_0100_pp"], labels(found)["im000004"]) == (-1, 1)
    assert (
        "1 rows of messidor_data.csv have a grade that is not referable and none of macular oedema; their images are "
        "unlabelled" in found.notes
    )


def test_a_grade_of_oedema_that_the_map_does_not_cover_is_an_error(tmp_path: Path) -> None:
    messidor(tmp_path, risk=5)
    with pytest.raises(CorpusError, match=r"does not cover the label of column 'Risk of macular edema' '5' \(2 rows"):
        scan(tmp_path, "messidor", label_map="referable-or-oedema")


def test_a_table_without_the_column_of_oedema_is_an_error(tmp_path: Path) -> None:
    table = idrid(tmp_path) / "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
    table.write_text(table.read_text().replace("Risk of macular edema", "Other"))
    with pytest.raises(CorpusError, match=r"Training Labels\.csv: no column 'Risk of macular edema'"):
        scan(tmp_path, "idrid", label_map="referable-or-oedema")
    assert len(scan(tmp_path, "idrid", label_map="referable").rows) == 3


def test_a_grade_that_the_map_does_not_cover_is_an_error(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 1, "2_left": 7, "3_left": 9, "4_left": 7})
    message = (
        r"corpus\.label_map referable does not cover the label '7' \(2 rows, first trainLabels\.csv line 3\), '9' "
        r"\(1 row, first trainLabels\.csv line 4\); correct the table, or set corpus\.outside: unlabelled"
    )
    for rest in ({}, {"outside": "refuse"}):
        with pytest.raises(CorpusError, match=message):
            scan(tmp_path, "eyepacs", label_map="referable", **rest)


def test_an_image_outside_the_map_may_join_the_pool(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 1, "2_left": 7})
    found = scan(tmp_path, "eyepacs", label_map="referable", outside="unlabelled")
    assert {name: (row.label, row.status) for name, row in by_name(found).items()} == {
        "1_left": (0, "ok"),
        "2_left": (-1, "ok"),
    }
    assert found.notes == [
        "1 rows have labels that corpus.label_map referable does not cover: '7' (1 row, first trainLabels.csv line 3); "
        "their labels are unknown"
    ]


def test_an_image_outside_the_map_may_be_left_out(tmp_path: Path) -> None:
    eyepacs(tmp_path, {"1_left": 1, "2_left": 7})
    row = by_name(scan(tmp_path, "eyepacs", label_map="referable", outside="leave_out"))["2_left"]
    assert row.status == "quarantined"
    assert row.reason == "trainLabels.csv line 3: label '7' is outside the classes (not referable, referable)"


def test_without_a_map_a_grade_outside_the_classes_is_quarantined(tmp_path: Path) -> None:
    found = scan(eyepacs(tmp_path, {"1_left": 1, "2_left": 7}), "eyepacs")
    assert by_name(found)["2_left"].reason == "trainLabels.csv line 3: label '7' is outside the classes (0 to 4)"


def test_all_findings_of_hyper_kvasir_are_classes_whether_they_are_there_or_not(tmp_path: Path) -> None:
    found = scan(hyper_kvasir(tmp_path, {"a": "polyps", "b": "hemorrhoids"}), "hyper-kvasir", label_map="all")
    assert found.classes == HYPER_KVASIR == tuple(sorted(HYPER_KVASIR))
    assert {name: found.classes[label] for name, label in labels(found).items()} == {"a": "polyps", "b": "hemorrhoids"}


def test_hyper_kvasir_and_kvasir_have_classes_in_common(tmp_path: Path) -> None:
    findings = {
        **{"a": "esophagitis-a", "b": "esophagitis-b-d", "c": "ulcerative-colitis-grade-0-1", "d": "cecum"},
        **{"e": "z-line", "f": "pylorus", "g": "polyps", "h": "dyed-lifted-polyps", "i": "polyp"},
    }
    found = scan(hyper_kvasir(tmp_path / "h", findings), "hyper-kvasir", label_map="kvasir")
    assert {name: KVASIR[label] for name, label in labels(found).items()} == {
        **{"a": "esophagitis", "b": "esophagitis", "c": "ulcerative-colitis", "d": "normal-cecum"},
        **{"e": "normal-z-line", "f": "normal-pylorus", "g": "polyps", "h": "dyed-lifted-polyps", "i": "polyps"},
    }
    assert found.classes == scan(kvasir(tmp_path / "k"), "kvasir").classes


def test_findings_that_a_map_leaves_out_join_the_pool_and_are_counted(tmp_path: Path) -> None:
    root = hyper_kvasir(tmp_path, {"a": "polyps", "b": "ileum", "c": "short-segment-barretts", "d": "ileum"})
    folds(root, {"a": 0, "b": 1, "c": 0, "d": 0})
    found = scan(root, "hyper-kvasir", label_map="kvasir", split={"official": "2_fold_split.csv"})
    rows = by_name(found)
    assert {name: (row.label, row.status, row.split) for name, row in rows.items()} == {
        "a": (6, "ok", "train"),
        "b": (-1, "ok", "test"),
        "c": (-1, "ok", "train"),
        "d": (-1, "ok", "train"),
    }
    assert found.notes == [
        "3 rows of image-labels.csv have labels that corpus.label_map kvasir leaves out (ileum, "
        "short-segment-barretts); their images are unlabelled"
    ]


def test_a_finding_that_hyper_kvasir_does_not_document_is_an_error(tmp_path: Path) -> None:
    hyper_kvasir(tmp_path, {"a": "polyps", "b": "varices"})
    with pytest.raises(CorpusError, match=r"corpus\.label_map kvasir does not cover the label 'varices' \(1 row"):
        scan(tmp_path, "hyper-kvasir", label_map="kvasir")


def test_names_of_split_files_are_names_of_findings() -> None:
    assert set(OTHER_NAMES.values()) <= set(HYPER_KVASIR)


def test_the_competition_has_five_findings(tmp_path: Path) -> None:
    found = scan(chexpert(tmp_path), "chexpert", label_map="competition", chexpert={"uncertain": {"Edema": "ones"}})
    assert found.classes == ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
    assert by_name(found)["patient00002_study2_view1_frontal"].labels == (-1, -1, -1, 1, -1)


def test_a_mark_that_the_map_does_not_cover_is_an_error(tmp_path: Path) -> None:
    table = chexpert(tmp_path) / "valid.csv"
    table.write_text(table.read_text().replace("1.0,1.0,1.0,0,0,0", "1.0,1.0,1.0,0,3,0"))
    with pytest.raises(CorpusError, match=r"the label of column 'Edema' '3' \(1 row, first valid\.csv line 2\)"):
        scan(tmp_path, "chexpert", label_map="competition")
    found = scan(tmp_path, "chexpert", label_map="competition", outside="unlabelled")
    assert by_name(found)["patient64541_study1_view1_frontal"].labels == (0, 1, 0, -1, 0)


def test_eight_findings_are_those_of_the_first_release(tmp_path: Path) -> None:
    found = scan(chestxray14(tmp_path), "chestx-ray14", label_map="eight")
    assert found.classes == (
        *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    )
    # Emphysema, hernia and thickening are not asked for: their images have none of the eight.
    rows = {name: row.labels for name, row in by_name(found).items()}
    assert rows == {
        "00000001_000": (0, 1, 0, 0, 0, 0, 0, 0),
        "00000001_001": (0, 1, 0, 0, 0, 0, 0, 0),
        "00000002_000": (0,) * 8,
        "00000003_000": (0,) * 8,
    }
    assert found.notes == []


@pytest.mark.parametrize("name", ["all", "eight"])
def test_a_finding_that_the_nih_does_not_document_is_an_error(tmp_path: Path, name: str) -> None:
    table = chestxray14(tmp_path) / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Emphysema", "Tuberculosis").replace("Hernia", "Tuberculosis"))
    with pytest.raises(CorpusError, match=r"cover the label 'Tuberculosis' \(2 rows, first Data_Entry.* line 3"):
        scan(tmp_path, "chestx-ray14", label_map=name)
    found = scan(tmp_path, "chestx-ray14", label_map=name, outside="unlabelled")
    assert by_name(found)["00000001_001"].labels == (-1,) * len(found.classes)
    assert len(found.classes) in (8, len(CHESTXRAY14))
