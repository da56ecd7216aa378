"""Measures and score of a picture, and how they stay known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import LocalStore
from tasks.data.catalog import table_of
from tasks.ingest.image_quality import MEASURES, measured, scores
from tasks.maintenance.forgetting.rewritten import rewrite_corpus
from tasks.spec import Spec
from tests.tasks.corpora.layouts import image
from tests.tasks.ingest.specs import run, spec


def disc(side: int = 512, radius: float = 250) -> np.ndarray:
    """A fundus photograph's likeness: a textured disc on black."""
    y, x = np.mgrid[:side, :side]
    texture = 110 + 40 * np.sin(x / 3.1) * np.cos(y / 2.7)
    return np.where((x - side / 2) ** 2 + (y - side / 2) ** 2 < radius**2, texture, 0).astype(np.uint8)


def of(image: np.ndarray) -> dict[str, float]:
    return dict(zip(MEASURES, measured(image), strict=True))


def score(image: np.ndarray, modality: str = "fundus") -> float:
    return float(scores(np.array([measured(image)]), modality)[0])


def test_the_field_is_what_is_not_black_border() -> None:
    assert of(disc())["field"] == pytest.approx(np.pi * 250**2 / 512**2, abs=0.02)


def test_dark_places_inside_the_field_are_no_border() -> None:
    image = disc()
    cv2.circle(image, (256, 256), 60, 0, -1)
    assert of(image)["field"] == of(disc())["field"]


def test_a_whole_disc_fills_its_circle_and_half_of_one_half() -> None:
    assert of(disc())["disc"] == pytest.approx(1, abs=0.05)
    assert of(disc()[:, :256])["disc"] == pytest.approx(0.5, abs=0.05)


def test_the_inside_of_a_disc_is_known_as_cut() -> None:
    assert of(disc()[130:380, 130:380])["disc"] == pytest.approx(2 / np.pi, abs=0.05)


def test_the_border_is_no_sharpness() -> None:
    image = np.where(disc() > 0, 110, 0).astype(np.uint8)
    assert of(image)["sharpness"] < 1e-4


def test_a_picture_without_a_field_has_no_quality() -> None:
    assert score(np.zeros((64, 64), np.uint8)) == 0


WORSE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 2),
    "darkened": lambda image: image // 2,
    "overexposed": lambda image: cv2.convertScaleAbs(image, alpha=2.2),
    "cropped": lambda image: np.ascontiguousarray(image[:, :300]),
}


@pytest.mark.parametrize("how", WORSE)
def test_what_is_worse_scores_lower(how: str) -> None:
    assert score(WORSE[how](disc())) < score(disc()) - 0.02


@pytest.mark.parametrize("modality", ["fundus", "endoscopy", "xray", "other"])
def test_scores_lie_between_0_and_1_and_are_unknown_where_nothing_was_measured(modality: str) -> None:
    found = scores(np.array([[1, 1, 1e9, 0, 120], [0, 0, 0, 1, 0], [np.nan] * 5]), modality)
    assert found[0] > 0.9
    assert found[1] == 0
    assert np.isnan(found[2])


@pytest.mark.parametrize("shape", [(16, 16), (16, 300), (3, 1), (700, 2000)])
def test_any_shape_is_measured(shape: tuple[int, int]) -> None:
    assert np.isfinite(measured(np.full(shape, 128, np.uint8))).all()


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "modality"), [("hyper-kvasir", "endoscopy"), ("chestx-ray14", "xray"), ("imo-fundus", "fundus")]
)
@pytest.mark.parametrize("how", ["blurred", "darkened"])
def test_real_images_that_are_made_worse_score_lower(real_data: Path, folder: str, modality: str, how: str) -> None:
    paths = [path for path in sorted((real_data / folder).rglob("*")) if path.suffix in (".jpg", ".png")][::30]
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    lower = [score(WORSE[how](image), modality) < score(image, modality) for image in images]
    assert np.mean(lower) >= 0.9


def qualities(store: LocalStore, manifest: Manifest) -> dict[str, float]:
    table = table_of(store, manifest, "catalog")
    return dict(zip(table["key"].to_pylist(), table["quality"].to_pylist(), strict=True))


def test_quality_is_known_of_what_is_stored(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store), cluster).manifest
    found = qualities(store, manifest)
    assert all(0 <= value <= 1 for value in found.values())
    assert manifest.facts["quality"]["images"] == len(found) == 46


def test_quality_stays_known_when_images_are_added_and_removed(
    corpus: Path, store: LocalStore, cluster: Cluster
) -> None:
    before = qualities(store, run(spec(corpus, store), cluster).manifest)
    (corpus / "train" / "30_left.jpeg").unlink()
    image(corpus / "train" / "99_left.jpeg", 99)
    after = qualities(store, run(spec(corpus, store), cluster).manifest)
    assert after.pop("99_left") >= 0
    assert after == before


def test_quality_stays_known_when_others_are_erased(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store), cluster).manifest
    before = qualities(store, manifest)
    found = rewrite_corpus(StageCache(store), manifest, ["3_left"]).manifest
    del before["3_left"]
    assert qualities(store, found) == before
    assert found.facts["quality"]["images"] == 45


def of_an_earlier_release(given: Spec, store: LocalStore, cluster: Cluster) -> Manifest:
    """A store whose shards were made without measures."""
    run(given, cluster)
    for name in store.sizes("units/ingest"):
        record = UnitRecord.from_bytes(store.get(name))
        for fact in ("measures", "overlays"):
            record.facts.pop(fact, None)
        store.put(name, record.to_bytes())
    for folder in ("heads", "manifests", "catalogs", "listings"):
        for name in store.sizes(folder):
            store.delete(name)
    return run(given, cluster).manifest


def test_a_store_of_an_earlier_release_knows_no_quality_until_images_are_added(
    corpus: Path, store: LocalStore, cluster: Cluster
) -> None:
    manifest = of_an_earlier_release(spec(corpus, store), store, cluster)
    assert np.isnan(list(qualities(store, manifest).values())).all()
    assert "quality" not in manifest.facts
    image(corpus / "train" / "99_left.jpeg", 99)
    known = {key for key, value in qualities(store, run(spec(corpus, store), cluster).manifest).items() if value >= 0}
    assert known == {"99_left"}


def test_a_lost_catalog_of_an_earlier_release_is_made_again_as_it_was(
    corpus: Path, store: LocalStore, cluster: Cluster
) -> None:
    manifest = of_an_earlier_release(spec(corpus, store), store, cluster)
    catalog = manifest.output(kind="catalog").name
    data = store.get(catalog)
    store.delete(catalog)
    store.delete(manifest.outputs_where(kind="shard")[0].name)  # made again, it is measured
    assert run(spec(corpus, store), cluster).manifest.digest == manifest.digest
    assert store.get(catalog) == data
