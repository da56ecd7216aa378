"""Overlays that are painted black in every frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, load_image
from tasks.ingest.pixels import ImageRecipe, encode_image
from tasks.preprocessing.frame_mask import PRESETS, box, paint, polygons_of
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.pictures import PLAIN, smooth
from tests.tasks.ingest.specs import run, spec

LEFT = [box(0, 0, 0.25, 1)]
WHITE = np.full((40, 80, 3), 255, np.uint8)


def black(image: np.ndarray) -> np.ndarray:
    """[H, W] bool."""
    return np.asarray((image == 0).all(axis=2))


def test_a_box_is_painted_to_its_last_pixel_and_no_further() -> None:
    painted = black(paint(WHITE, LEFT))
    assert painted[:, :20].all()
    assert not painted[:, 20:].any()


def test_the_whole_frame_may_be_painted() -> None:
    assert black(paint(WHITE, [box(0, 0, 1, 1)])).all()


def test_the_same_places_at_every_size() -> None:
    shares = [
        black(paint(np.full((h, w, 3), 9, np.uint8), PRESETS["hyper-kvasir"])).mean()
        for h, w in ((532, 633), (133, 158))
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)


def test_the_given_image_stays() -> None:
    paint(WHITE, LEFT)
    assert (WHITE == 255).all()


def test_an_ingested_image_is_masked(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = eyepacs(tmp_path / "c", many_patients(20))
    given = spec(root, store, ingest={"mask": LEFT, "encode": "png"})
    corpus = Corpus(store, run(given, cluster).manifest)
    image = load_image(store, corpus.shards[0], 0)
    quarter = image.shape[1] // 4
    assert black(image)[:, : quarter - 1].all()
    assert not black(image)[:, quarter + 1 :].all()
    assert corpus.manifest.section["ingest"]["mask"] == polygons_of(LEFT)


def test_a_mask_goes_through_json(tmp_path: Path) -> None:
    import json

    import cv2

    data = cv2.imencode(".png", smooth(40, 80))[1].tobytes()
    recipe = ImageRecipe(**{**vars(PLAIN), "mask": json.loads(json.dumps(LEFT))})
    stored = cv2.imdecode(np.frombuffer(encode_image(data, recipe).data, np.uint8), cv2.IMREAD_COLOR)
    assert black(stored)[:, :20].all()


@pytest.mark.parametrize(
    ("ingest", "match"),
    [
        ({"mask": "olympus"}, "hyper-kvasir"),
        ({"mask": LEFT, "crop": "endoscopy"}, "give one of crop and mask"),
        ({"mask": LEFT, "encode": "keep"}, "leave ingest.size, crop and mask away"),
        ({"mask": [[[0, 0], [1, 1]]]}, "three corners or more"),
        ({"mask": [[[0, 0], [1, 1], [2, 0]]]}, "less than or equal to 1"),
    ],
)
def test_a_mask_that_means_nothing_is_wrong_in_the_spec(
    tmp_path: Path, store: LocalStore, ingest: dict[str, object], match: str
) -> None:
    given = {"size": None, **ingest} if ingest.get("encode") == "keep" else ingest
    with pytest.raises(ValueError, match=match):
        spec(tmp_path, store, ingest=given)


@pytest.mark.real
def test_borders_of_real_frames_say_less_after_the_mask(real_data: Path) -> None:
    from tasks.evaluate.baselines import border
    from tests.bench.frame_masks import balanced_accuracy, frames

    images, label, fold, names = frames(real_data / "hyper-kvasir")
    mask = partial(paint, polygons=PRESETS["hyper-kvasir"])
    before, after = (
        balanced_accuracy(np.stack([border(how(image)) for image in images]), label, fold, len(names), folds=1)
        for how in (np.asarray, mask)
    )
    assert before > 0.85
    assert after < before - 0.15
