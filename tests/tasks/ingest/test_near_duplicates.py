"""Near copies have near hashes, different pictures have not, and near pairs are found exactly."""

from __future__ import annotations

from csv import DictReader
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.corpora.phantom.fundus import draw_fundus
from tasks.ingest.near_duplicates import BYTES, LIMITS, near_clusters, near_pairs, perceptual_hash
from tasks.ingest.pixels import ImageRecipe, hash_image
from tests.tasks.ingest.pictures import noisy, packed, smooth

STORED_FUNDUS = ImageRecipe(size=512, encode="jpeg", quality=92, crop="fundus", max_pixels=10**8)
STORED_FRAMES = replace(STORED_FUNDUS, crop="endoscopy")


def differ(one: np.ndarray, two: np.ndarray) -> int:
    pair = np.frombuffer(perceptual_hash(one) + perceptual_hash(two), np.uint8).reshape(2, BYTES)
    return int(np.bitwise_count(pair[0] ^ pair[1]).sum())


def copies(image: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "encoded": cv2.imdecode(np.frombuffer(packed(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 50]), np.uint8), 1),
        "smaller": cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "brighter": cv2.convertScaleAbs(image, alpha=1.1, beta=5),
        "darker": cv2.convertScaleAbs(image, alpha=0.85),
    }


@pytest.mark.parametrize("kind", ["encoded", "smaller", "brighter", "darker"])
def test_a_near_copy_has_a_near_hash(kind: str) -> None:
    for patient in range(6):
        image = np.ascontiguousarray(draw_fundus(0, patient, "left", 2, 512)[..., ::-1])
        assert differ(image, copies(image)[kind]) <= LIMITS["fundus"]


def test_other_patients_have_other_hashes() -> None:
    images = [np.ascontiguousarray(draw_fundus(0, patient, "left", 0, 256)) for patient in range(12)]
    hashes = np.stack([np.frombuffer(perceptual_hash(image), np.uint8) for image in images])
    pairs = near_pairs(hashes, np.arange(12), 2 * LIMITS["fundus"])
    assert len(pairs) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 64), (513, 767)])
def test_every_shape_has_a_hash(shape: tuple[int, int]) -> None:
    assert len(perceptual_hash(smooth(*shape))) == BYTES


def test_pictures_of_one_colour_have_one_hash() -> None:
    hashes = {perceptual_hash(np.full((40, 50, 3), level, np.uint8)) for level in (0, 7, 128, 255)}
    assert hashes == {bytes(BYTES)}


def test_half_of_the_bits_are_set() -> None:
    bits = np.unpackbits(np.frombuffer(perceptual_hash(noisy(100, 120)), np.uint8))
    assert bits.sum() in (BYTES * 4 - 1, BYTES * 4)


def test_the_hash_of_a_picture_never_changes() -> None:
    # Hashes stand in stores: another formula is another stage version.
    ramp = np.add.outer(np.arange(96) ** 2 % 251, np.arange(128) * 3 % 241).astype(np.uint8)
    assert (
        perceptual_hash(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])).hex()[:32] == "839052d449c6599749859ac14ef31627"
    )


def brute(hashes: np.ndarray, group: np.ndarray, limit: int) -> np.ndarray:
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2, dtype=int)
    rows = np.nonzero(np.triu((bits <= limit) & (group[:, None] != group[None]), 1))
    return np.stack(rows, axis=1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_near_pairs_are_those_of_brute_force(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 9))
    rows = data.draw(st.integers(0, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Around a few centres, so that there are pairs at every distance; at most 8 equal ones.
    centres = rng.integers(0, 256, (5, width), dtype=np.uint8)
    hashes = centres[rng.integers(0, 5, rows)]
    flips = rng.random((rows, 8 * width)) < data.draw(st.sampled_from([0.02, 0.1, 0.5]))
    hashes = hashes ^ np.packbits(flips, axis=1) if rows else hashes
    group = rng.integers(0, 8, rows)
    limit = data.draw(st.integers(0, min(8 * width - 1, 12)))
    sizes = np.unique(np.column_stack([hashes, group]), axis=0, return_counts=True)[1] if rows else np.zeros(1)
    found, wanted = near_pairs(hashes, group, limit), brute(hashes, group, limit)
    if sizes.max() <= 8:
        assert np.array_equal(found, wanted)
    else:
        assert set(map(tuple, found)) <= set(map(tuple, wanted))
        assert set(found.ravel()) == set(wanted.ravel())


@pytest.mark.parametrize("limit", [0, 4, 20, 40])
def test_near_pairs_of_long_hashes_are_those_of_brute_force(limit: int) -> None:
    rng = np.random.default_rng(limit)
    hashes = rng.integers(0, 256, (300, BYTES), dtype=np.uint8)
    for row in range(0, 300, 3):
        places = rng.choice(8 * BYTES, row % 50, replace=False)
        hashes[row] = np.packbits(np.unpackbits(hashes[row + 1]) ^ np.isin(np.arange(8 * BYTES), places))
    group = rng.integers(0, 2, 300)
    assert np.array_equal(near_pairs(hashes, group, limit), brute(hashes, group, limit))


def parts(size: int, edges: np.ndarray) -> set[frozenset[int]]:
    """Connected parts of two nodes or more, one edge at a time."""
    part = {node: {node} for node in range(size)}
    for one, two in edges.tolist():
        both = part[one] | part[two]
        part.update(dict.fromkeys(both, both))
    return {frozenset(nodes) for nodes in part.values() if len(nodes) > 1}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 5), st.integers(0, 7))
def test_clusters_are_those_that_pairs_with_a_new_row_join(seed: int, rows: int, width: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (6, width), dtype=np.uint8)
    flips = np.packbits(rng.random((rows, 8 * width)) < 0.1, axis=1) if rows else np.empty((0, width), np.uint8)
    hashes = centres[rng.integers(0, 6, rows)] ^ flips
    new = rng.random(rows) < 0.5
    pairs = brute(hashes, np.arange(rows), limit)
    # Rows that are not new are compared with new ones; those of equal hashes are one to them.
    equal = (hashes[pairs[:, 0]] == hashes[pairs[:, 1]]).all(axis=1)
    joined = parts(rows, pairs[new[pairs].any(axis=1) | equal])
    wanted = {nodes for nodes in joined if new[sorted(nodes)].any()}
    found = near_clusters(hashes, new, limit)
    clusters = {frozenset(np.flatnonzero(found == number).tolist()) for number in set(found.tolist()) - {-1}}
    assert clusters == wanted
    assert sorted(set(found.tolist()) - {-1}) == list(range(len(wanted)))


def test_a_chain_of_near_rows_is_one_cluster() -> None:
    hashes = np.stack([np.packbits(np.arange(64) < 4 * step) for step in range(12)])
    assert near_clusters(hashes, np.ones(12, bool), 4).tolist() == [0] * 12
    # Stored rows alone make no chain.
    assert near_clusters(hashes, np.arange(12) == 0, 4).tolist() == [0, 0] + [-1] * 10


def test_clusters_of_many_equal_hashes_need_no_pairs() -> None:
    assert near_clusters(np.zeros((200_000, BYTES), np.uint8), np.ones(200_000, bool), 56).max() == 0


def test_pairs_within_a_group_do_not_count() -> None:
    assert len(near_pairs(np.zeros((5, 8), np.uint8), np.ones(5, int), 3)) == 0


def test_many_equal_hashes_are_linked_once_each() -> None:
    group = np.arange(100_000) % 2
    pairs = near_pairs(np.zeros((100_000, 8), np.uint8), group, 4)
    assert len(pairs) == 99_999
    assert len(np.unique(pairs)) == 100_000
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (group[pairs[:, 0]] != group[pairs[:, 1]]).all()


@pytest.mark.parametrize(
    ("hashes", "group", "limit"),
    [
        (np.zeros((3, 8), np.int64), np.zeros(3, int), 1),
        (np.zeros((3, 8), np.uint8), np.zeros(4, int), 1),
        (np.zeros((3, 8), np.uint8), np.zeros(3, int), 64),
        (np.zeros((3, 8), np.uint8), np.zeros(3, int), -1),
    ],
)
def test_what_makes_no_sense_is_refused(hashes: np.ndarray, group: np.ndarray, limit: int) -> None:
    with pytest.raises(ValueError, match=r"hashes|limit"):
        near_pairs(hashes, group, limit)


@pytest.mark.real
def test_real_patients_do_not_match(real_data: Path) -> None:
    hashes, patients = [], []
    for path in sorted(real_data.glob("chestx-ray14/images_001/images/*.png")):
        hashes.append(np.frombuffer(perceptual_hash(cv2.imread(str(path))), np.uint8))
        patients.append(int(path.name[:8]))
    assert len(near_pairs(np.stack(hashes), np.array(patients), 2 * LIMITS["xray"])) == 0


@pytest.mark.real
def test_real_photographs_of_other_patients_do_not_match(real_data: Path) -> None:
    files = sorted((real_data / "imo-fundus/images").glob("*.jpg"))
    hashes = np.stack([np.frombuffer(hash_image(path.read_bytes(), STORED_FUNDUS), np.uint8) for path in files])
    patients = np.array([path.name.split("_")[0] for path in files])
    pairs = near_pairs(hashes, np.unique(patients, return_inverse=True)[1], 2 * LIMITS["fundus"])
    # One file is there under two patients.
    assert [(files[one].name, files[two].name) for one, two in pairs] == [("0551_OD_f_1.jpg", "0827_OD_f_1.jpg")]


@pytest.mark.real
def test_real_frames_match_those_of_their_video_and_no_others(real_data: Path) -> None:
    """Of 320 frames of bowel preparation, 111 have one in the other fold with which their greys correlate above .97."""
    with (real_data / "hyper-kvasir/2_fold_split.csv").open() as lines:
        fold_of = {row["file-name"]: int(row["split-index"]) for row in DictReader(lines, delimiter=";")}
    files = sorted((real_data / "hyper-kvasir/labeled-images").glob("*/*/*/*.jpg"))
    hashes = np.stack([np.frombuffer(hash_image(path.read_bytes(), STORED_FRAMES), np.uint8) for path in files])
    kinds = [path.parts[-2] for path in files]
    # The three classes of bowel preparation are of the same videos.
    kind = np.array([("cecum", "polyps").index(name) + 1 if name in ("cecum", "polyps") else 0 for name in kinds])
    assert len(near_pairs(hashes, kind, LIMITS["endoscopy"])) == 0
    fold = np.array([fold_of[path.name] for path in files])
    twins = np.unique(near_pairs(hashes, fold, LIMITS["endoscopy"]))
    assert (kind == 0).sum() == 320
    assert 95 <= (kind[twins] == 0).sum() <= 111
