"""A retrain decides what to do: nothing, only label the few images that are new, or train."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.line import Place, states

SPEC = """
name: small
store: store
corpus: {adapter: folder, root: images, split: {val: 0.2, test: 0.2, near_duplicates: ignore}}
ingest: {shard_size: 16, size: 48}
views: {size: 48, count: 1}
teachers: [{name: t, model: micro_m, train: {steps: 2, batch: 8, checkpoint_every: 2}}]
student: {model: micro_xs, train: {steps: 2, batch: 8, checkpoint_every: 2}, seeds: [0]}
retrain: {least_new: 5}
run: {device: cpu, cluster: {workers: 1}}
"""


def draw(folder: Path, numbers: range) -> None:
    """Images of noise, one each number, in a folder of their class."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng([ord(folder.name[0]), number]).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), pixels)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Place:
    made = Place(tmp_path_factory.mktemp("decision"), text=SPEC, api=prefect_server)
    for name in ("round", "square"):
        draw(made.root / "images" / name, range(24))
    return made


def test_a_run_trains_once_enough_is_new(place: Place) -> None:
    first = place.json("retrain", "small.yaml", "--upto", "distill")
    assert first["glance"]["new"] is None
    assert first["glance"]["images"] == 48
    assert set(states(first).values()) == {"Completed"}

    again = place.json("retrain", "small.yaml", "--upto", "distill")
    assert set(states(again).values()) == {"Cached"}
    assert again["glance"]["why"] == "nothing is new since the last training"
    assert again["glance"]["made"] == []

    draw(place.root / "images" / "round", range(24, 27))
    few = place.json("retrain", "small.yaml", "--upto", "distill")
    assert states(few) == {"ingest": "Completed", "label t": "Completed"}
    assert few["glance"]["new"] == 3
    assert "retrain.least_new asks for 5: they are ingested and labelled, nothing is trained" in few["glance"]["why"]

    # Counted from the last training, not from the last run.
    draw(place.root / "images" / "square", range(24, 27))
    enough = place.json("retrain", "small.yaml", "--upto", "distill")
    assert enough["glance"]["new"] == 6
    assert states(enough)["distill taught seed 0"] == "Completed"
