"""Write whole phantom corpora in the layouts of Kaggle EyePACS and Hyper-Kvasir.

The folders hold exactly what a user has after extracting the real downloads, so the same adapters read them; the
marker `phantom.json` beside them says that they are drawn. A corpus is written in a hidden folder next to `root` and
moved into place when it is whole: `root` exists with everything in it or not at all, and a marker without its
images, or images without a marker, is nothing this module ever leaves behind.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.corpora.phantom.canvas import generator
from tasks.corpora.phantom.endoscopy import FINDINGS, draw_endoscopy
from tasks.corpora.phantom.fundus import draw_fundus

MARKER = "phantom.json"
DRAWING = 1
"""Version of the drawings: raise it when the same parameters make other pixels or other labels."""

JPEG_QUALITY = 92
GRADE_PRIOR = (0.28, 0.18, 0.18, 0.18, 0.18)
"""Share of each grade. Flatter than EyePACS, where 73 % are grade 0: small corpora need some of every grade."""

SAME_GRADE = 0.6
"""Share of patients whose second eye copies the first eye's grade; the others draw afresh."""


def write_phantom_fundus(
    root: Path, *, seed: int, size: int, labelled: int, unlabelled: int, val: int, test: int
) -> None:
    """Write a fundus corpus of `size` px images under `root`, as EyePACS lies on disk after extraction.

    `train/<patient>_<eye>.jpeg` holds `labelled` images with a row in `trainLabels.csv` (header `image,level`) and
    `unlabelled` without one; `test/` holds `val` images that `retinopathy_solution.csv` (header `image,level,Usage`)
    calls Public and `test` that it calls Private. Patients have both eyes and are in one of the four groups only,
    so every count must be even. Returns at once when `root` holds this very corpus. Raises ValueError for a count
    that is odd or negative, and when `root` holds anything else.
    """
    counts = {"labelled": labelled, "unlabelled": unlabelled, "val": val, "test": test}
    for name, count in counts.items():
        if count < 0 or count % 2:
            raise ValueError(f"{name} must be even (both eyes of each patient) and not negative, got {count}")

    def draw(folder: Path) -> None:
        rows: dict[str, list[str]] = {group: [] for group in counts}
        patients = _patients(seed, sum(counts.values()) // 2)
        for group, count in counts.items():
            images = folder / ("test" if group in ("val", "test") else "train")
            images.mkdir(exist_ok=True)
            for _ in range(count // 2):
                patient = next(patients)
                for eye, grade in zip(("left", "right"), _grades(seed, patient), strict=True):
                    name = f"{patient}_{eye}"
                    _write_jpeg(images / f"{name}.jpeg", draw_fundus(seed, patient, eye, grade, size))
                    usage = {"val": ",Public", "test": ",Private"}.get(group, "")
                    rows[group].append(f"{name},{grade}{usage}")
        _write_lines(folder / "trainLabels.csv", ["image,level", *_by_patient(rows["labelled"])])
        solution = _by_patient(rows["val"] + rows["test"])
        _write_lines(folder / "retinopathy_solution.csv", ["image,level,Usage", *solution])

    _write_once(Path(root), {"kind": "fundus", "seed": seed, "size": size, **counts}, draw)


def write_phantom_endoscopy(root: Path, *, seed: int, size: int, labelled: int, unlabelled: int) -> None:
    """Write an endoscopy corpus of `size` px images under `root`, as Hyper-Kvasir lies on disk after extraction.

    `labeled-images/<tract>/<group>/<class>/<uuid>.jpg` holds `labelled` images, the classes of `FINDINGS` in equal
    parts, with `labeled-images/image-labels.csv` (header `Video file,Organ,Finding,Classification`);
    `unlabeled-images/images/<uuid>.jpg` holds `unlabelled` more of the same mixture. Returns at once when `root`
    holds this very corpus. Raises ValueError for a negative count, and when `root` holds anything else.
    """
    for name, count in {"labelled": labelled, "unlabelled": unlabelled}.items():
        if count < 0:
            raise ValueError(f"{name} must not be negative, got {count}")

    def draw(folder: Path) -> None:
        rows = []
        pool = folder / "unlabeled-images" / "images"
        pool.mkdir(parents=True)
        for number in range(labelled + unlabelled):
            finding = list(FINDINGS)[number % len(FINDINGS)]
            place = FINDINGS[finding]
            stem = _uuid(seed, number)
            images = pool
            if number < labelled:
                images = folder / "labeled-images" / place.tract / place.group / finding
                images.mkdir(parents=True, exist_ok=True)
                rows.append(f"{stem},{place.organ},{finding},{place.group}")
            _write_jpeg(images / f"{stem}.jpg", draw_endoscopy(seed, number, finding, size))
        labels = folder / "labeled-images" / "image-labels.csv"
        labels.parent.mkdir(exist_ok=True)
        _write_lines(labels, ["Video file,Organ,Finding,Classification", *sorted(rows)])

    counts = {"labelled": labelled, "unlabelled": unlabelled}
    _write_once(Path(root), {"kind": "endoscopy", "seed": seed, "size": size, **counts}, draw)


def _write_once(root: Path, wanted: dict[str, Any], draw: Callable[[Path], None]) -> None:
    wanted = {**wanted, "drawing": DRAWING}
    if root.exists() and any(root.iterdir()):
        found = _read_marker(root)
        if found == wanted:
            return
        held = f"the phantom corpus {json.dumps(found)}" if found else "files that are no phantom corpus"
        raise ValueError(f"{root} already holds {held}; choose another folder for {json.dumps(wanted)}")
    root.parent.mkdir(parents=True, exist_ok=True)
    drawing = root.parent / f".{root.name}.{uuid.uuid4().hex}"
    drawing.mkdir()
    try:
        draw(drawing)
        marker = {"parameters": wanted, "digest": corpus_digest(drawing)}
        _write_lines(drawing / MARKER, [json.dumps(marker, indent=1, sort_keys=True)])
        try:
            if root.exists():
                root.rmdir()
            os.replace(drawing, root)
        except OSError:
            # Another run drew the same corpus meanwhile and was faster.
            if _read_marker(root) != wanted:
                raise
            shutil.rmtree(drawing)
    except BaseException:
        shutil.rmtree(drawing, ignore_errors=True)
        raise


def corpus_digest(root: Path) -> str:
    """sha256 (hex) over the relative path and content of every file under `root` except the marker, in path order."""
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.name != MARKER):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _read_marker(root: Path) -> dict[str, Any] | None:
    try:
        parameters = json.loads((root / MARKER).read_text())["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return parameters if isinstance(parameters, dict) else None


def _patients(seed: int, count: int) -> Iterator[int]:
    # Shuffled numbers: a patient's number says nothing about the group, as in the real corpus.
    yield from (int(number) for number in generator(seed, "patients").permutation(count) + 1)


def _grades(seed: int, patient: int) -> tuple[int, int]:
    rng = generator(seed, "grades", patient)
    first, second = (int(grade) for grade in rng.choice(len(GRADE_PRIOR), size=2, p=GRADE_PRIOR))
    return first, first if rng.random() < SAME_GRADE else second


def _by_patient(rows: list[str]) -> list[str]:
    return sorted(rows, key=lambda row: (int(row.split("_")[0]), row))


def _uuid(seed: int, number: int) -> str:
    return str(uuid.UUID(bytes=generator(seed, "uuid", number).bytes(16), version=4))


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    path.write_bytes(data.tobytes())


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
