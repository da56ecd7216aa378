"""`stillroom init`: the spec that is written for a folder loads, and its adapter takes the folder."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from infra.errors import CorpusError, UsageError
from tasks.proposal.proposal import write_spec
from tests.tasks.corpora.layouts import csv, eyepacs, hyper_kvasir, image, many_patients
from tests.tasks.proposal.folders import images, read_back, table
from tests.tasks.sources.packing import zip_of

LABELS = ["a", "b"] * 20


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "work" / "own.yaml"


def test_eyepacs(tmp_path: Path, to: Path) -> None:
    found = write_spec(eyepacs(tmp_path / "c", many_patients(20), pool=["900_left"]), to)
    spec, scan = read_back(found)
    assert (found["adapter"], spec.corpus.task, scan.modality) == ("eyepacs", "ordinal", "fundus")
    assert "1 unlabelled" in str(found["text"])


def test_hyper_kvasir(tmp_path: Path, to: Path) -> None:
    findings = {f"f{i}": ("polyps", "cecum")[i % 2] for i in range(40)}
    found = write_spec(hyper_kvasir(tmp_path / "c", findings, pool=["p1"]), to)
    spec, scan = read_back(found)
    assert found["adapter"] == "hyper-kvasir"
    assert scan.classes == ("cecum", "polyps")
    assert spec.views.vflip


def test_a_zip_is_looked_at_in_place(tmp_path: Path, to: Path) -> None:
    root = zip_of(table(tmp_path / "c", LABELS), tmp_path / "c.zip", within="data/")
    spec, scan = read_back(write_spec(root, to))
    assert spec.corpus.table is not None
    assert (spec.corpus.table.csv, Counter(row.label for row in scan.rows)) == ("data/labels.csv", {0: 20, 1: 20})


def test_a_table_with_commas(tmp_path: Path, to: Path) -> None:
    spec, scan = read_back(write_spec(table(tmp_path / "c", LABELS), to))
    assert spec.corpus.table is not None
    assert (spec.corpus.table.image, spec.corpus.table.label) == ("file", "label")
    assert Counter(row.label for row in scan.rows) == {0: 20, 1: 20}


def test_a_table_with_semicolons_and_a_patient_column(tmp_path: Path, to: Path) -> None:
    names = images(tmp_path / "c", [f"{i:03d}x.jpg" for i in range(40)])
    rows = [f"{n};{LABELS[i]};pat{i // 2};{50 + i % 3}" for i, n in enumerate(names)]
    csv(tmp_path / "c" / "t.csv", "Image;Diagnosis;Patient ID;Patient Age", rows)
    spec, scan = read_back(write_spec(tmp_path / "c", to))
    assert spec.corpus.table is not None
    assert (spec.corpus.table.label, spec.corpus.table.patient) == ("Diagnosis", "Patient ID")
    assert len({row.patient for row in scan.rows}) == 20


def test_a_patient_in_the_image_names(tmp_path: Path, to: Path) -> None:
    names = [f"{100 + i // 2}_{'LR'[i % 2]}.png" for i in range(40)]
    _, scan = read_back(write_spec(table(tmp_path / "c", LABELS, names=names), to))
    assert len({row.patient for row in scan.rows}) == 20


@pytest.mark.parametrize(
    "names",
    [
        [f"{i:04d}_view.png" for i in range(40)],
        [f"img_{i:04d}_x.png" for i in range(40)],
        [f"202001{1 + i // 2:02d}_{i:03d}.png" for i in range(40)],
    ],
    ids=["nobody twice", "one prefix for all", "dates"],
)
def test_no_patient_where_the_names_tell_none(tmp_path: Path, to: Path, names: list[str]) -> None:
    spec, _ = read_back(write_spec(table(tmp_path / "c", LABELS, names=names), to))
    assert spec.corpus.table is not None
    assert spec.corpus.table.patient_pattern is None


def test_no_pattern_that_official_splits_contradict(tmp_path: Path, to: Path) -> None:
    names = [f"{i // 2}_{i % 2}.png" for i in range(40)]
    rows = [f"{label},{'train' if i % 2 else 'test'}" for i, label in enumerate(LABELS)]
    spec, scan = read_back(write_spec(table(tmp_path / "c", rows, names=names, header="file,label,split"), to))
    assert spec.corpus.table is not None
    assert (spec.corpus.table.split, spec.corpus.table.patient_pattern) == ("split", None)
    assert scan.official == {"train", "test"}


def test_split_lists(tmp_path: Path, to: Path) -> None:
    root = table(tmp_path / "c", LABELS)
    names = sorted(p.name for p in root.rglob("*.png"))
    (root / "train_val_list.txt").write_text("\n".join(names[:30]))
    (root / "test_list.txt").write_text("\n".join(names[30:]))
    (root / "README.txt").write_text("a test of the train\n")
    _, scan = read_back(write_spec(root, to))
    assert Counter(row.split for row in scan.rows) == {"train": 30, "test": 10}


def test_values_that_mean_unlabelled(tmp_path: Path, to: Path) -> None:
    labels = [*LABELS, "-", "NA", "unknown", ""]
    _, scan = read_back(write_spec(table(tmp_path / "c", labels), to))
    assert (scan.classes, sum(not row.labelled for row in scan.rows)) == (("a", "b"), 4)


def test_separators_at_the_ends_of_labels_are_none(tmp_path: Path, to: Path) -> None:
    _, scan = read_back(write_spec(table(tmp_path / "c", ["A|B|", "B", "A", "|C|A"] * 10), to))
    assert (scan.task, scan.classes) == ("multilabel", ("A", "B", "C"))


def test_numbers_with_decimals_are_no_classes_where_they_are_many(tmp_path: Path, to: Path) -> None:
    root = table(tmp_path / "c", [f"{i % 10 / 10},{'ab'[i % 2]}" for i in range(40)], header="file,score,finding")
    assert read_back(write_spec(root, to))[1].classes == ("a", "b")


def test_several_labels_an_image(tmp_path: Path, to: Path) -> None:
    labels = ["No Finding", "Mass", "Mass|Edema", "Edema"] * 10
    spec, scan = read_back(write_spec(table(tmp_path / "c", labels), to))
    assert spec.corpus.table is not None
    assert (scan.task, scan.classes, spec.corpus.table.negative) == ("multilabel", ("Edema", "Mass"), "No Finding")
    assert not spec.views.hflip


def test_grades_have_an_order(tmp_path: Path, to: Path) -> None:
    labels = [str(i % 4) for i in range(40)]
    spec, _ = read_back(write_spec(table(tmp_path / "c", labels, header="file,grade"), to))
    assert spec.corpus.task == "ordinal"


def test_other_label_columns_stand_in_comments(tmp_path: Path, to: Path) -> None:
    rows = [f"{i % 2},{'mild' if i % 3 else '-'},{30 + i % 9}" for i in range(40)]
    rows[0] = "0,severe,30"
    rows[3] = "1,severe,33"
    write_spec(table(tmp_path / "c", rows, header="file,dme,grade,age"), to)
    text = to.read_text()
    assert "label: dme" in text
    assert "# label: grade" in text
    assert "label: age" not in text


def test_names_with_blanks_dots_and_other_letters(tmp_path: Path, to: Path) -> None:
    names = [f"Röntgen Bilder/Fall {i}.vorn é.png" for i in range(40)]
    found = write_spec(table(tmp_path / "Größe: 1 #", LABELS, names=names), to)
    _, scan = read_back(found)
    assert sum(row.labelled for row in scan.rows) == 40


def test_masks_of_the_same_name_are_left_out(tmp_path: Path, to: Path) -> None:
    root = table(tmp_path / "c", LABELS)
    for path in (root / "images").iterdir():
        image(root / "masks" / path.name)
    _, scan = read_back(write_spec(root, to))
    assert {row.path.split("/")[0] for row in scan.rows} == {"images"}
    assert len(scan.rows) == 40


def test_names_that_two_folders_have_are_refused_with_what_to_do(tmp_path: Path, to: Path) -> None:
    names = [f"{site}/{i}.png" for site in ("site-a", "site-b") for i in range(20)]
    images(tmp_path / "c", names)
    csv(tmp_path / "c/labels.csv", "image,label", [f"{i % 20},{'ab'[i % 2]}" for i in range(40)])
    with pytest.raises(
        CorpusError, match=r"the names of labels\.csv fit images in site-a/ and in site-b/; give the folder"
    ):
        write_spec(tmp_path / "c", to)


def test_images_left_out_for_their_names_are_noted(tmp_path: Path, to: Path) -> None:
    root = table(tmp_path / "c", LABELS)
    for path in (root / "images").iterdir():
        image(root / "overlays" / path.name)
    found = write_spec(root, to)
    assert {row.path.split("/")[0] for row in read_back(found)[1].rows} == {"images"}
    assert any(note.startswith("40 images outside images/ are left out") for note in found["notes"])


def test_masks_within_each_class_are_no_class(tmp_path: Path, to: Path) -> None:
    names = [
        f"{kind}/{what}/{kind}-{i}.png" for kind in ("a", "b", "c") for what in ("images", "masks") for i in range(9)
    ]
    images(tmp_path / "c", names)
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert (scan.classes, len(scan.rows)) == (("a", "b", "c"), 27)


def test_columns_of_ones_and_zeros_are_one_label(tmp_path: Path, to: Path) -> None:
    rows = [",".join("1.0" if column == i % 4 else "0.0" for column in range(4)) for i in range(40)]
    spec, scan = read_back(write_spec(table(tmp_path / "c", rows, header="file,MEL,NV,BCC,AK"), to))
    assert spec.corpus.table is not None
    assert spec.corpus.table.label == ["MEL", "NV", "BCC", "AK"]
    assert (scan.task, Counter(row.label for row in scan.rows)) == ("single", {0: 10, 1: 10, 2: 10, 3: 10})


def test_columns_that_go_together_are_several_labels(tmp_path: Path, to: Path) -> None:
    rows = [f"{i % 2}.0,{'-1.0' if i % 7 == 0 else f'{i % 3 // 2}.0'},{i % 5 // 4 or ''}" for i in range(60)]
    spec, scan = read_back(write_spec(table(tmp_path / "c", rows, header="file,Edema,Mass,Nodule"), to))
    assert spec.corpus.table is not None
    assert (scan.task, scan.classes) == ("multilabel", ("Edema", "Mass", "Nodule"))
    assert spec.corpus.table.unlabelled == ["-1.0"]


def test_spreadsheet_errors_mean_unlabelled(tmp_path: Path, to: Path) -> None:
    _, scan = read_back(write_spec(table(tmp_path / "c", [*LABELS, "#N/A", "#REF!", "NaN"]), to))
    assert (scan.classes, sum(not row.labelled for row in scan.rows)) == (("a", "b"), 3)


def test_a_class_whose_name_has_a_comma_is_one(tmp_path: Path, to: Path) -> None:
    labels = ["normal", '"polyp, sessile"'] * 20
    _, scan = read_back(write_spec(table(tmp_path / "c", labels), to))
    assert (scan.task, scan.classes) == ("single", ("normal", "polyp, sessile"))


def test_a_finding_a_row_is_several_labels_an_image(tmp_path: Path, to: Path) -> None:
    names = images(tmp_path / "c", [f"{i:02d}.png" for i in range(30)])
    rows = [
        f"{name},{finding}" for i, name in enumerate(names) for finding in (["Mass"] * (i % 2) + ["Edema"] * (i % 3))
    ]
    csv(tmp_path / "c/labels.csv", "file,label", rows)
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert (scan.task, scan.classes) == ("multilabel", ("Edema", "Mass"))


def test_a_packed_table_is_found(tmp_path: Path, to: Path) -> None:
    root = table(tmp_path / "c", LABELS)
    (root / "labels.csv.gz").write_bytes(gzip.compress((root / "labels.csv").read_bytes()))
    (root / "labels.csv").unlink()
    spec, scan = read_back(write_spec(root, to))
    assert spec.corpus.table is not None
    assert (spec.corpus.table.csv, scan.classes) == ("labels.csv.gz", ("a", "b"))


def test_patients_are_folders_of_the_path(tmp_path: Path, to: Path) -> None:
    names = [f"train/patient{i // 3:05d}/study{i % 3}/view1.png" for i in range(60)]
    images(tmp_path / "c", names)
    csv(tmp_path / "c/train.csv", "Path,label", [f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)])
    _, scan = read_back(write_spec(tmp_path / "c", to))
    assert {row.patient for row in scan.rows} == {f"patient{i:05d}" for i in range(20)}


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["0", "1", "0.0", "1", "0"], ("0", "1")),
        (["TRUE", "False", "true", "False"], ("False", "TRUE")),
        (["polyp", "normal", "polyp\u200b", "normal"], ("normal", "polyp")),
        (["non-polyp", "polyp", "non\u2013polyp", "polyp", "non-polyp"], ("non-polyp", "polyp")),
        (["0,0", "1,0", "2,0"], ("0,0", "1,0", "2,0")),
    ],
)
def test_spellings_of_a_label_are_proposed_as_one_class(
    tmp_path: Path, to: Path, cells: list[str], classes: tuple[str, ...]
) -> None:
    root = tmp_path / "c"
    images(root, [f"{i}.png" for i in range(40)])
    csv(root / "labels.csv", "file;label", [f"{i};{cells[i % len(cells)]}" for i in range(40)])
    _, scan = read_back(write_spec(root, to))
    assert (scan.task, scan.classes) == ("single", classes)
    assert all(row.labelled for row in scan.rows)


def test_columns_of_true_and_false_are_one_label(tmp_path: Path, to: Path) -> None:
    rows = [",".join(str(i % 3 == k) for k in range(3)) for i in range(30)]
    _, scan = read_back(write_spec(table(tmp_path / "c", rows, header="file,A,B,C"), to))
    assert (scan.task, scan.classes) == ("single", ("A", "B", "C"))


def test_columns_of_which_many_rows_have_none_are_several_labels(tmp_path: Path, to: Path) -> None:
    rows = [",".join(str(int(i % 4 == k)) for k in range(3)) for i in range(40)]
    _, scan = read_back(write_spec(table(tmp_path / "c", rows, header="file,A,B,C"), to))
    assert scan.task == "multilabel"
    assert len(scan.rows) == 40


def test_a_small_class_is_noted(tmp_path: Path, to: Path) -> None:
    found = write_spec(table(tmp_path / "c", [*LABELS, "rare", "rare"]), to)
    assert any("rare (2)" in note for note in found["notes"])


def test_training_is_as_long_as_the_images_are_many(tmp_path: Path, to: Path) -> None:
    train = read_back(write_spec(table(tmp_path / "c", LABELS * 10), to))[0].teachers[0].train
    assert train is not None
    assert (train.steps, train.steps_for(100) < train.steps_for(200)) == (None, True)


def test_the_file_and_the_report_say_how_many_steps_and_minutes(tmp_path: Path, to: Path) -> None:
    found = write_spec(table(tmp_path / "c", [*LABELS, ""]), to)
    spec, scan = read_back(found)
    train = spec.student.train
    assert "a retrain takes about" in str(found["text"])
    steps = train.steps_for(len(scan.rows))
    assert f"passes over all training images; here {steps:,} steps" in to.read_text()


def test_relative_when_both_move_together(tmp_path: Path) -> None:
    root = table(tmp_path / "data", LABELS)
    write_spec(root, tmp_path / "own.yaml")
    assert "root: data" in (tmp_path / "own.yaml").read_text()


def test_no_such_folder(tmp_path: Path, to: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere: no such folder"):
        write_spec(tmp_path / "nowhere", to)


def test_no_images(tmp_path: Path, to: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "train.7z").touch()
    with pytest.raises(CorpusError, match=r"no image below it .*extract train\.7z first"):
        write_spec(tmp_path / "c", to)


def test_no_labels(tmp_path: Path, to: Path) -> None:
    images(tmp_path / "c", [f"{i}.png" for i in range(5)])
    with pytest.raises(CorpusError, match="columns image,label"):
        write_spec(tmp_path / "c", to)
    assert not to.parent.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}.0", "'1.0' would be 'im/1.png' as a whole number"),
        ("old/{}.png", "'old/1.png' and 'im/1.png' have the same name in other folders"),
        ("00{}", "'001' would be 'im/1.png' with other leading zeros"),
        ("'{}'", "would be 'im/1.png' without its quotes"),
        ("%31{}", "would be 'im/11.png' with its %-codes decoded"),
        ("1.2346E+1{}", "is a rounded number: a spreadsheet cut the names' digits"),
    ],
)
def test_a_table_that_spells_the_names_otherwise_is_explained(tmp_path: Path, to: Path, name: str, said: str) -> None:
    root = tmp_path / "c"
    images(root, [f"im/{i}.png" for i in (*range(1, 9), *range(11, 19))])
    csv(root / "labels.csv", "image,label", [f"{name.format(i)},{i % 2}.0" for i in range(1, 9)])
    with pytest.raises(CorpusError) as caught:
        write_spec(root, to)
    assert said in str(caught.value)


def test_labels_that_look_like_images_are_no_names(tmp_path: Path, to: Path) -> None:
    root = tmp_path / "c"
    images(root, [f"{i}.png" for i in range(8)])
    csv(root / "labels.csv", "file,label", [f"other{i},{i % 2}.0" for i in range(8)])
    with pytest.raises(CorpusError, match="no CSV whose rows name them"):
        write_spec(root, to)


def test_no_label_column(tmp_path: Path, to: Path) -> None:
    with pytest.raises(CorpusError, match=r"labels\.csv names images, but none of its columns \(file, label\)"):
        write_spec(table(tmp_path / "c", ["same"] * 40), to)


def test_nothing_is_overwritten(tmp_path: Path, to: Path) -> None:
    root = table(tmp_path / "c", LABELS)
    write_spec(root, to)
    before = to.read_text()
    with pytest.raises(UsageError, match=r"own\.yaml: there is a file of that name already.*--to"):
        write_spec(root, to)
    assert to.read_text() == before


def test_no_spec_within_the_corpus(tmp_path: Path) -> None:
    root = table(tmp_path / "c", LABELS)
    with pytest.raises(UsageError, match="must not lie within the corpus"):
        write_spec(root, root / "own.yaml")
