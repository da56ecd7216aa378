"""Files of several pages or frames: the first is stored, and the others are not left out in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.preprocessing.formats import read_header
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.specs import run, spec


def pages(path: Path, count: int) -> None:
    """A file of so many noisy pages."""
    noise = np.random.default_rng(0).integers(0, 255, (count, 20, 24, 3), dtype=np.uint8)
    first, *others = [Image.fromarray(page) for page in noise]
    first.save(path, save_all=True, append_images=others)


@pytest.mark.parametrize("suffix", ["tiff", "gif", "webp"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_header_tells_whether_there_is_more(tmp_path: Path, suffix: str, count: int) -> None:
    path = tmp_path / f"a.{suffix}"
    pages(path, count)
    assert read_header(path.read_bytes(), 10_000).several == (count > 1)


def test_they_are_counted_in_the_manifest(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = eyepacs(tmp_path / "corpus", many_patients(20))
    assert "several_pages" not in run(spec(root, store), cluster).manifest.facts
    pages(root / "train/41_left.tiff", 3)
    pages(root / "train/42_left.gif", 1)
    assert run(spec(root, store), cluster).manifest.facts["several_pages"] == 1
    pages(root / "train/43_left.gif", 2)
    facts = run(spec(root, store), cluster).manifest.facts
    assert facts["several_pages"] == 2
    assert (
        "2 files have several pages or frames; the first of each is stored, the others are left out" in facts["notes"]
    )
