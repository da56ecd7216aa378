"""The phantom corpora: exact layouts, the same bytes every time, and nothing to learn from a thumbnail."""

import csv
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks.corpora.phantom.endoscopy import FINDINGS, draw_endoscopy
from tasks.corpora.phantom.fundus import GRADES, draw_fundus
from tasks.corpora.phantom.write import MARKER, corpus_digest, write_phantom_endoscopy, write_phantom_fundus

SMALL_FUNDUS = {"seed": 5, "size": 64, "labelled": 8, "unlabelled": 6, "val": 4, "test": 4}
SMALL_ENDOSCOPY = {"seed": 5, "size": 64, "labelled": 12, "unlabelled": 5}


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "eyepacs"
    write_phantom_fundus(root, **SMALL_FUNDUS)
    return root


@pytest.fixture(scope="module")
def endoscopy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "hyper-kvasir"
    write_phantom_endoscopy(root, **SMALL_ENDOSCOPY)
    return root


def table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or []), rows


def stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_fundus_labels_have_the_kaggle_header_and_a_row_per_labelled_image(fundus: Path) -> None:
    header, rows = table(fundus / "trainLabels.csv")
    assert (header, len(rows)) == (["image", "level"], SMALL_FUNDUS["labelled"])


def test_fundus_train_images_without_a_row_are_the_unlabelled_ones(fundus: Path) -> None:
    labelled = {row["image"] for row in table(fundus / "trainLabels.csv")[1]}
    assert len(stems(fundus / "train") - labelled) == SMALL_FUNDUS["unlabelled"]
    assert labelled <= stems(fundus / "train")


def test_fundus_solution_names_every_test_image_and_its_usage(fundus: Path) -> None:
    header, rows = table(fundus / "retinopathy_solution.csv")
    usages = [row["Usage"] for row in rows]
    assert header == ["image", "level", "Usage"]
    assert {row["image"] for row in rows} == stems(fundus / "test")
    assert (usages.count("Public"), usages.count("Private")) == (SMALL_FUNDUS["val"], SMALL_FUNDUS["test"])


def test_fundus_images_are_named_by_patient_and_eye(fundus: Path) -> None:
    names = [path.name for folder in ("train", "test") for path in (fundus / folder).iterdir()]
    assert all(re.fullmatch(r"\d+_(left|right)\.jpeg", name) for name in names)


def test_both_eyes_of_a_fundus_patient_share_one_group(fundus: Path) -> None:
    for folder in ("train", "test"):
        patients = [stem.split("_")[0] for stem in stems(fundus / folder)]
        assert all(patients.count(patient) == 2 for patient in patients)


def test_endoscopy_rows_point_at_files_where_hyper_kvasir_puts_them(endoscopy: Path) -> None:
    header, rows = table(endoscopy / "labeled-images" / "image-labels.csv")
    assert header == ["Video file", "Organ", "Finding", "Classification"]
    for row in rows:
        tract = {"Lower GI": "lower-gi-tract", "Upper GI": "upper-gi-tract"}[row["Organ"]]
        folder = endoscopy / "labeled-images" / tract / row["Classification"] / row["Finding"]
        assert (folder / f"{row['Video file']}.jpg").is_file()


def test_endoscopy_rows_name_every_labelled_image_and_every_class(endoscopy: Path) -> None:
    _, rows = table(endoscopy / "labeled-images" / "image-labels.csv")
    on_disk = {path.stem for path in (endoscopy / "labeled-images").rglob("*.jpg")}
    assert {row["Video file"] for row in rows} == on_disk
    assert {row["Finding"] for row in rows} == set(FINDINGS)


def test_endoscopy_pool_is_flat_and_named_by_uuid(endoscopy: Path) -> None:
    names = [path.name for path in (endoscopy / "unlabeled-images" / "images").iterdir()]
    assert len(names) == SMALL_ENDOSCOPY["unlabelled"]
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jpg", name) for name in names)


def test_the_same_parameters_write_the_same_bytes(fundus: Path, tmp_path: Path) -> None:
    write_phantom_fundus(tmp_path / "again", **SMALL_FUNDUS)
    assert corpus_digest(tmp_path / "again") == corpus_digest(fundus)


def test_another_seed_writes_other_bytes(endoscopy: Path, tmp_path: Path) -> None:
    write_phantom_endoscopy(tmp_path / "other", **{**SMALL_ENDOSCOPY, "seed": 6})
    assert corpus_digest(tmp_path / "other") != corpus_digest(endoscopy)


def test_a_complete_corpus_is_not_drawn_again(fundus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in fundus.rglob("*")}
    write_phantom_fundus(fundus, **SMALL_FUNDUS)
    assert {path: path.stat().st_mtime_ns for path in fundus.rglob("*")} == before


def test_other_parameters_in_the_same_folder_are_refused(fundus: Path) -> None:
    with pytest.raises(ValueError, match="already holds the phantom corpus"):
        write_phantom_fundus(fundus, **{**SMALL_FUNDUS, "seed": 6})


def test_a_folder_with_files_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="no phantom corpus"):
        write_phantom_endoscopy(tmp_path, **SMALL_ENDOSCOPY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_phantom_endoscopy(tmp_path / "empty", seed=1, size=64, labelled=6, unlabelled=0)
    assert (tmp_path / "empty" / MARKER).is_file()


def test_a_refused_size_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 64 px"):
        write_phantom_endoscopy(tmp_path / "corpus", **{**SMALL_ENDOSCOPY, "size": 32})
    assert list(tmp_path.iterdir()) == []


def test_an_odd_number_of_fundus_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labelled must be even"):
        write_phantom_fundus(tmp_path / "corpus", **{**SMALL_FUNDUS, "labelled": 7})


@pytest.mark.parametrize("size", [64, 2000])
def test_a_fundus_has_the_size_asked_for(size: int) -> None:
    image = draw_fundus(1, 2, "left", 4, size)
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)


@pytest.mark.parametrize("size", [64, 2000])
def test_a_frame_has_the_size_asked_for(size: int) -> None:
    image = draw_endoscopy(1, 2, "polyps", size)
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)


def test_both_sizes_of_a_fundus_show_the_same_picture() -> None:
    large, small = draw_fundus(1, 2, "left", 3, 1536), draw_fundus(1, 2, "left", 3, 384)
    shrunk = cv2.resize(large, (384, 384), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("grade", [-1, 5])
def test_a_grade_outside_the_scale_is_refused(grade: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 4"):
        draw_fundus(1, 2, "left", grade, 64)


def test_a_finding_that_nobody_draws_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no phantom finding 'ileum'"):
        draw_endoscopy(1, 2, "ileum", 64)


def drawn(kind: str, numbers: range) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    classes = GRADES if kind == "fundus" else len(FINDINGS)
    labels = np.array([number % classes for number in numbers])
    if kind == "fundus":
        images = [draw_fundus(3, number, "left", label, 96) for number, label in zip(numbers, labels, strict=True)]
    else:
        names = list(FINDINGS)
        images = [draw_endoscopy(3, number, names[label], 96) for number, label in zip(numbers, labels, strict=True)]
    return np.stack(images), labels


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    small = [cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).reshape(len(images), -1) / 255.0


def borders(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    frame = np.ones(images.shape[1:3], bool)
    frame[2:-2, 2:-2] = False
    return images[:, frame].reshape(len(images), -1) / 255.0


@pytest.mark.parametrize("reduce", [thumbnails, borders])
@pytest.mark.parametrize("kind", ["fundus", "endoscopy"])
def test_a_linear_model_on_trivial_features_scores_near_chance(kind: str, reduce: object) -> None:
    assert callable(reduce)
    images, labels = drawn(kind, range(300))
    others, truth = drawn(kind, range(1000, 1300))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    accuracy = model.fit(reduce(images), labels).score(reduce(others), truth)
    chance = 1 / len(np.unique(labels))
    # Four standard errors of an accuracy at chance on 300 images: 0.09.
    assert accuracy < chance + 4 * np.sqrt(chance * (1 - chance) / len(truth))


def test_two_runs_that_draw_the_same_corpus_at_once_both_succeed(tmp_path: Path) -> None:
    def draw(number: int) -> None:
        write_phantom_endoscopy(tmp_path / "corpus", seed=1, size=64, labelled=12, unlabelled=12)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
