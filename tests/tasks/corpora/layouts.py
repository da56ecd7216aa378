"""Small corpora on disk, in the layouts that people download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np


def image(path: Path, seed: int = 0, width: int = 24, height: int = 20) -> Path:
    """A small image of its own, in the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    done, data = cv2.imencode(path.suffix.lower(), pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


def csv(path: Path, header: str, rows: Sequence[str]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def eyepacs(root: Path, grades: Mapping[str, int], pool: Sequence[str] = ()) -> Path:
    """train/ and trainLabels.csv; `pool` are images without a label row."""
    for seed, name in enumerate([*grades, *pool]):
        image(root / "train" / f"{name}.jpeg", seed)
    csv(root / "trainLabels.csv", "image,level", [f"{name},{grade}" for name, grade in grades.items()])
    return root


def solution(root: Path, rows: Mapping[str, tuple[int, str]]) -> Path:
    """test/ and retinopathy_solution.csv: name to (grade, Usage)."""
    for seed, name in enumerate(rows, start=1000):
        image(root / "test" / f"{name}.jpeg", seed)
    lines = [f"{name},{grade},{usage}" for name, (grade, usage) in rows.items()]
    csv(root / "retinopathy_solution.csv", "image,level,Usage", lines)
    return root


def many_patients(patients: int, grades: int = 5) -> dict[str, int]:
    """Both eyes of each patient, every grade in turn."""
    return {f"{p}_{side}": p % grades for p in range(1, patients + 1) for side in ("left", "right")}


def hyper_kvasir(root: Path, findings: Mapping[str, str], pool: Sequence[str] = ()) -> Path:
    """labeled-images with image-labels.csv, and unlabeled-images; `findings` is name to class."""
    for seed, (name, finding) in enumerate(findings.items()):
        image(root / "labeled-images/lower-gi-tract/group" / finding / f"{name}.jpg", seed)
    for seed, name in enumerate(pool, start=1000):
        image(root / "unlabeled-images/images" / f"{name}.jpg", seed)
    rows = [f"{name},Lower GI,{finding},group" for name, finding in findings.items()]
    csv(root / "labeled-images/image-labels.csv", "Video file,Organ,Finding,Classification", rows)
    return root


def folds(root: Path, rows: Mapping[str, int], name: str = "2_fold_split.csv") -> Path:
    """An official split file; its class names are not those of the folders."""
    return csv(root / name, "file-name;class-name;split-index", [f"{n}.jpg;other;{f}" for n, f in rows.items()])
