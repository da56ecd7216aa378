"""Real photographs with scarce labels: folders as a user has them, so that there is a gap for teaching to close.

Each folder has `labels.csv` (image, label, patient, split; the label of a pool image is blank), the images, and
`truth.csv` with the labels that were blanked, for the arm that shows the ceiling. Patients never straddle splits; where
a corpus names none (Hyper-Kvasir), frames that look alike count as one patient, and unlabelled ones that look like a
test or validation frame are left out. Hyper-Kvasir's frames are cut to the
inside of the picture and a disc of it, because their borders give classes away.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from infra.errors import UsageError
from tasks.ingest.near_duplicates import near_pairs, perceptual_hash

SIDE = 256
"""Longest side in pixels of the images that are written; most originals are smaller or little larger."""

_ALIKE = 40
"""Bits within which two frames count as one patient: as when the tables of docs/recipes.md were made."""

# Left, top and side of the square inside an endoscope's picture that no text or inset reaches, as shares of the width.
_INSIDE = (0.345, 0.115, 0.575)


@dataclass(frozen=True)
class Source:
    """One image of a corpus as it is downloaded."""

    path: Path
    label: str  # "" where nobody said
    patient: str


@dataclass(frozen=True)
class Scarce:
    """How a corpus is split.

    Attributes:
        read: lists its images.
        classes: in order.
        labelled: training images that keep their label, chosen by patient; the other ones are the pool.
        val, test: shares of the patients.
        modality: of the spec.
        prepare: from an image as it is, RGB uint8, to what is written.
    """

    read: Callable[[Path], list[Source]]
    classes: tuple[str, ...]
    labelled: int
    val: float
    test: float
    modality: str
    prepare: Callable[[np.ndarray], np.ndarray]


def real_data() -> Path:
    """The folder of real subsets.

    Raises:
        UsageError: STILLROOM_REAL_DATA does not name one.
    """
    found = os.environ.get("STILLROOM_REAL_DATA")
    if not found or not Path(found).is_dir():
        raise UsageError("set STILLROOM_REAL_DATA to the folder that holds hyper-kvasir, chestx-ray14 and imo-fundus")
    return Path(found).resolve()


def write(name: str, folder: Path, *, labelled: int | None = None) -> Path:
    """Write a corpus with scarce labels into `folder`; the same files every time. Returns the folder.

    Args:
        name: of `SETS`.
        labelled: training images that keep their label; default: the set's own number.

    Raises:
        UsageError: the real images are not there.
    """
    chosen = SETS[name]
    sources = chosen.read(real_data())
    splits = _splits(sources, chosen, labelled or chosen.labelled)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows, truth = [], []
    for source, (split, keeps) in zip(sources, splits, strict=True):
        if split != "train" and not source.label:
            continue
        image = cv2.imread(str(source.path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UsageError(f"{source.path} is not an image")
        out = folder / "images" / f"{source.path.stem}.jpg"
        small = _shrunk(chosen.prepare(np.asarray(image)))
        cv2.imwrite(str(out), cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        rows.append([out.name, source.label if keeps else "", source.patient, split])
        truth.append([out.name, source.label])
    _table(folder / "labels.csv", ["image", "label", "patient", "split"], rows)
    _table(folder / "truth.csv", ["image", "label"], truth)
    return folder


def _table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(sorted(rows))


def _splits(sources: list[Source], chosen: Scarce, labelled: int) -> Iterator[tuple[str, bool]]:
    """Split of each image, and whether it keeps its label."""
    patients = sorted({source.patient for source in sources}, key=lambda one: sha256(one.encode()).digest())
    # Patients without any label can neither be tested on nor teach labels: they are pool.
    known = {source.patient for source in sources if source.label}
    judged = [patient for patient in patients if patient in known]
    test = set(judged[: round(chosen.test * len(judged))])
    val = set(judged[len(test) : len(test) + round(chosen.val * len(judged))])
    training = [patient for patient in judged if patient not in test | val]
    keeping, count = set(), 0
    per_patient: dict[str, int] = {}
    for source in sources:
        per_patient[source.patient] = per_patient.get(source.patient, 0) + bool(source.label)
    for patient in training:
        if count >= labelled:
            break
        keeping.add(patient)
        count += per_patient[patient]
    for source in sources:
        split = "test" if source.patient in test else "val" if source.patient in val else "train"
        yield split, split != "train" or source.patient in keeping


def _shrunk(image: np.ndarray) -> np.ndarray:
    scale = SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _inside(image: np.ndarray) -> np.ndarray:
    """The disc in the square inside an endoscope's picture, black around it."""
    width = image.shape[1]
    left, top, side = (round(share * width) for share in _INSIDE)
    square = image[top : top + side, left : left + side].copy()
    mask = np.zeros(square.shape[:2], np.uint8)
    centre = (square.shape[1] // 2, square.shape[0] // 2)
    cv2.circle(mask, centre, min(centre), 1, -1)
    return np.asarray(square * mask[..., None])


def _as_it_is(image: np.ndarray) -> np.ndarray:
    return image


def _hyper_kvasir(real: Path) -> list[Source]:
    root = real / "hyper-kvasir"
    paths = sorted((root / "labeled-images").rglob("*.jpg"))
    pool = sorted((root / "unlabeled-images").rglob("*.jpg"))
    labels = [path.parent.name for path in paths] + [""] * len(pool)
    paths += pool
    hashes = np.stack([_hash(path) for path in paths])
    group = np.arange(len(paths))
    for one, two in near_pairs(hashes, group.copy(), _ALIKE).tolist():
        group[group == group[two]] = group[one]
    return [Source(path, label, f"g{own}") for path, label, own in zip(paths, labels, group.tolist(), strict=True)]


def _hash(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    return np.frombuffer(perceptual_hash(np.asarray(image)), np.uint8)


def _chest(real: Path) -> list[Source]:
    root = real / "chestx-ray14"
    with (root / "Data_Entry_2017.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    folder = root / "images_001" / "images"
    return [Source(folder / row["Image Index"], row["Finding Labels"], f"p{row['Patient ID']}") for row in rows]


def _imo(real: Path) -> list[Source]:
    root = real / "imo-fundus"
    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {"0": "no edema", "1": "edema"}
    return [
        Source(root / "images" / f"{row['Name']}.jpg", names[row["DME"]], f"p{row['Name'].split('_')[0]}")
        for row in rows
    ]


SETS: dict[str, Scarce] = {
    "hyper-kvasir": Scarce(
        _hyper_kvasir,
        ("bbps-0-1", "bbps-2-3", "cecum", "impacted-stool", "polyps"),
        labelled=100,
        val=0.12,
        test=0.4,
        modality="endoscopy",
        prepare=_inside,
    ),
    "chest": Scarce(
        _chest,
        ("No Finding", "Pneumonia"),
        labelled=120,
        val=0.15,
        test=0.4,
        modality="xray",
        prepare=_as_it_is,
    ),
    "imo": Scarce(
        _imo,
        ("no edema", "edema"),
        labelled=24,
        val=0.15,
        test=0.4,
        modality="fundus",
        prepare=_as_it_is,
    ),
}
"""The sets of the recipe table, by name."""
