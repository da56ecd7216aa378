"""What ingest makes of a fixed tiny corpus."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.ingest.stage import STAGE, VERSION
from tests.golden.guard import check
from tests.tasks.corpora.layouts import csv
from tests.tasks.ingest.specs import run, spec


def corpus(root: Path) -> Path:
    """24 images drawn with whole numbers only, stored without loss, so that no library can move the input."""
    (root / "train").mkdir(parents=True)
    rows = []
    for patient in range(12):
        for side in range(2):
            y, x = np.mgrid[0:90, 0:110]
            channels = [(x * (patient + 2) + y * (side + 3) * k) % 256 for k in (1, 2, 5)]
            buffer = io.BytesIO()
            Image.fromarray(np.stack(channels, axis=2).astype(np.uint8)).save(buffer, "PNG")
            name = f"{patient}_{('left', 'right')[side]}"
            (root / "train" / f"{name}.png").write_bytes(buffer.getvalue())
            if patient < 9:
                rows.append(f"{name},{patient % 2}")
    csv(root / "trainLabels.csv", "image,level", rows)
    return root


def test_shards_have_the_bytes_of_their_version(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = corpus(tmp_path / "corpus")
    found = {}
    for encode in ("jpeg", "png"):
        given = spec(root, store, {"classes": ["no", "yes"]}, ingest={"size": 48, "encode": encode})
        for shard in run(given, cluster).manifest.outputs_where(kind="shard"):
            found[f"{encode} {shard.meta['split']} {shard.meta['number']}"] = shard.sha256
    check(STAGE, VERSION, found)
