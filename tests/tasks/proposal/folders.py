"""Folders as newcomers bring them, and trees as they are before and after."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from infra.digest import sha256_file
from tasks.corpora import Scan
from tasks.spec import Spec, load_spec
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.corpora.scans import scan_of


def images(root: Path, names: Iterable[str]) -> list[str]:
    """An image for each name."""
    names = list(names)
    for seed, name in enumerate(names):
        image(root / name, seed)
    return names


def table(root: Path, labels: list[str], *, names: list[str] | None = None, header: str = "file,label") -> Path:
    """Images with a table beside them; the table's further columns are the caller's."""
    names = images(root, names or [f"images/{i:03d}x.png" for i in range(len(labels))])
    csv(root / "labels.csv", header, [f"{Path(n).name},{label}" for n, label in zip(names, labels, strict=True)])
    return root


def tree(*roots: Path) -> dict[str, str]:
    """Every file below the roots with its digest, and every folder."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            found[str(path)] = sha256_file(path) if path.is_file() else "folder" if path.is_dir() else "absent"
    return found


def read_back(found: dict[str, object]) -> tuple[Spec, Scan]:
    """The written spec, and what its adapter makes of the folder."""
    spec = load_spec(str(found["spec"]))
    return spec, scan_of(spec.corpus)
