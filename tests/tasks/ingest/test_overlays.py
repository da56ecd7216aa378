"""Likely text and inset boxes: what is found, how it is counted, and that it stays known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data import catalog
from tasks.ingest.overlay_counts import count_overlays, overlay_note, overlay_table
from tasks.ingest.overlays import has_box, has_overlay, has_text
from tasks.ingest.pixels import encode_image
from tasks.ingest.stage import IngestWork
from tasks.maintenance.forgetting.rewritten import rewrite_corpus
from tasks.pipeline.context import Context
from tasks.planning.counts import count_corpus
from tasks.preprocessing.crop import find_endoscopy
from tasks.preprocessing.frame_mask import PRESETS, box, paint
from tests.tasks.corpora.layouts import hyper_kvasir, image
from tests.tasks.ingest.image_tables import Image, table_of
from tests.tasks.ingest.pictures import KEEP, PLAIN
from tests.tasks.ingest.specs import run, spec


def frame(side: int = 400) -> np.ndarray:
    """Soft texture with round highlights, as of an endoscope."""
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(60, 160, (8, 8), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    for x, y in rng.integers(10, side - 10, (40, 2)).tolist():
        cv2.circle(picture, (x, y), int(rng.integers(1, 9)), 250, -1)
    return np.asarray(picture)


def with_text(picture: np.ndarray, level: int = 255) -> np.ndarray:
    return np.asarray(cv2.putText(picture.copy(), "12/03/2014", (12, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.4, level, 1))


def with_box(picture: np.ndarray) -> np.ndarray:
    picture = picture.copy()
    picture[260:, :130] = 0
    return picture


def test_highlights_are_neither_text_nor_box() -> None:
    assert not has_overlay(frame())


@pytest.mark.parametrize("level", [255, 0])
def test_bright_and_dark_text_is_found(level: int) -> None:
    assert has_text(with_text(np.full((400, 500), 128, np.uint8), level))


def test_text_in_the_middle_of_the_frame_is_not_looked_for() -> None:
    picture = np.full((400, 500), 128, np.uint8)
    cv2.putText(picture, "ABCDE", (230, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    assert not has_text(picture)


@pytest.mark.parametrize("turn", range(4))
def test_a_box_is_found_in_every_corner(turn: int) -> None:
    assert has_box(np.ascontiguousarray(np.rot90(with_box(frame()), turn)))


def test_the_corners_of_a_disc_are_no_boxes() -> None:
    picture = np.zeros((400, 400), np.uint8)
    cv2.circle(picture, (200, 200), 198, 140, -1)
    assert not has_box(picture)


def test_a_corner_that_the_mask_paints_holds_no_box() -> None:
    mask = [box(0, 0.6, 0.4, 1)]
    painted = paint(cv2.cvtColor(frame(), cv2.COLOR_GRAY2BGR), mask)[..., 0]
    assert has_box(painted)
    assert not has_box(painted, mask)


def test_nothing_is_said_of_a_picture_that_was_decoded_smaller() -> None:
    done, data = cv2.imencode(".jpg", with_box(frame(1200)))
    assert done
    assert encode_image(data.tobytes(), KEEP).overlay is None
    assert encode_image(data.tobytes(), PLAIN).overlay is not None


@pytest.mark.real
def test_real_endoscopy_frames_and_what_the_mask_leaves(real_data: Path) -> None:
    paths = sorted((real_data / "hyper-kvasir" / "labeled-images").rglob("*.jpg"))[::20]
    found, left = [], []
    for path in paths:
        picture = cv2.imread(str(path))
        place = find_endoscopy(picture)
        cut = picture if place is None else place.cut(picture)
        mask = PRESETS["hyper-kvasir"]
        found.append(has_overlay(cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY)))
        left.append(has_overlay(cv2.cvtColor(paint(picture, mask), cv2.COLOR_BGR2GRAY), mask))
    assert np.mean(found) > 0.85
    assert np.mean(left) < 0.1


@pytest.mark.real
def test_fundus_photographs_have_none(real_data: Path) -> None:
    paths = sorted((real_data / "imo-fundus" / "images").rglob("*.jpg"))[::15]
    assert not any(has_overlay(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths)


MARKS = [1, 0, 1, 0, 1, 0, 0, 0, 1, -1]


def counts(overlay: int | list[int] = MARKS) -> dict[str, Any]:
    images = table_of([Image(str(n), label=n % 2 if n < 8 else -1) for n in range(10)])
    images.numbers("overlay")[:] = overlay
    return count_overlays(images, ["x", "y"])


def test_overlays_are_counted_by_class() -> None:
    assert counts() == {
        "images": 9,
        "found": 4,
        "by_class": {"x": {"images": 4, "found": 3}, "y": {"images": 4, "found": 0}},
        "unlabelled": {"images": 1, "found": 1},
    }


def test_nothing_is_counted_where_nobody_looked() -> None:
    assert counts(-1) == {}


def test_the_note_names_the_classes_that_have_some() -> None:
    (note,) = overlay_note(counts())
    assert note.startswith("likely text or inset boxes: unlabelled 100 %, x 75 %: they can give the class away")
    assert overlay_note(counts(0)) == []


def test_the_table_has_a_row_a_class() -> None:
    rows = overlay_table("ours", counts()).content
    assert [(row["class"], row["share"]) for row in rows if isinstance(row, dict)] == [
        ("x", "75.0%"),
        ("y", "0.0%"),
        ("unlabelled", "100.0%"),
    ]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Sixteen frames each of polyps and of cecum; those of polyps have a box."""
    root = hyper_kvasir(tmp_path / "hk", {f"{'pc'[n % 2]}{n:02d}": ("polyps", "cecum")[n % 2] for n in range(32)})
    for path in (root / "labeled-images").rglob("*.jpg"):
        rng = np.random.default_rng(int(path.stem[1:]))
        coarse = rng.integers(90, 160, (6, 6, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC)
        if path.stem.startswith("p"):
            picture[100:, :60] = 0
        cv2.imwrite(str(path), picture)
    return root


def known(store: LocalStore, manifest: Manifest) -> dict[str, bool | None]:
    rows = catalog.table_of(store, manifest, "catalog")
    return dict(zip(rows["key"].to_pylist(), rows["overlay"].to_pylist(), strict=True))


CORPUS = {"adapter": "hyper-kvasir", "name": "hk"}
AS_IS = {"size": 128, "crop": "none"}


def test_an_ingest_says_which_class_has_boxes(frames: Path, store: LocalStore, cluster: Cluster) -> None:
    given = spec(frames, store, CORPUS, ingest=AS_IS)
    result = run(given, cluster)
    manifest = result.manifest
    assert all(found == key.startswith("p") for key, found in known(store, manifest).items())
    assert manifest.facts["overlays"]["by_class"]["polyps"] == {"images": 16, "found": 16}
    assert any(note.startswith("likely text or inset boxes: polyps 100 %: ") for note in manifest.facts["notes"])
    work = IngestWork(Context(store), given.corpus, given.ingest)
    assert [table.key for table in work.artifacts(result, 0.0)] == ["shards-hk", "quarantine-hk", "overlays-hk"]


def test_with_a_mask_over_the_corner_nothing_is_found(frames: Path, store: LocalStore, cluster: Cluster) -> None:
    how = {"size": 128, "mask": [box(0, 0.6, 0.4, 1)]}
    apart = {**CORPUS, "split": {"near_duplicates": "ignore"}}
    manifest = run(spec(frames, store, apart, ingest=how), cluster).manifest
    assert manifest.facts["overlays"]["found"] == 0


def test_overlays_stay_known_when_images_are_added_removed_and_erased(
    frames: Path, store: LocalStore, cluster: Cluster
) -> None:
    given = spec(frames, store, CORPUS, ingest=AS_IS)
    before = known(store, run(given, cluster).manifest)
    next((frames / "labeled-images").rglob("p00.jpg")).unlink()
    image(frames / "unlabeled-images/images/z.jpg", 5, 160, 160)
    manifest = run(given, cluster).manifest
    after = known(store, manifest)
    assert after["z"] is not None
    assert {key: after[key] for key in before} == before
    del before["p02"]
    erased = known(store, rewrite_corpus(StageCache(store), manifest, ["p02", "z"]).manifest)
    assert {key: erased[key] for key in before} == before
    assert "z" not in erased


def test_a_plan_tells_it_of_the_images_that_it_reads(frames: Path, store: LocalStore) -> None:
    found = count_corpus(spec(frames, store, CORPUS, ingest=AS_IS), store).sampled_overlays
    assert found["by_class"]["polyps"]["found"] == found["by_class"]["polyps"]["images"] > 0
    assert found["by_class"]["cecum"]["found"] == 0
