"""A table beside small images, scanned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.corpora.scan import Row, Scan
from tasks.spec import CorpusSection, TableSection
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.corpora.scans import scan_of


def scan(
    root: Path,
    rows: list[str],
    images: list[str],
    *,
    task: str | None = None,
    classes: Sequence[str] | None = None,
    header: str = "name,label",
    **table: object,
) -> Scan:
    """Write the table and the images, and scan them.

    Args:
        table: keys of `corpus.table`.
    """
    csv(root / "labels.csv", header, rows)
    for seed, name in enumerate(images):
        image(root / name, seed)
    named = TableSection(**{"csv": "labels.csv", "image": "name", "label": "label", **table})  # type: ignore[arg-type]
    section = CorpusSection(
        adapter="table",
        root=root,  # type: ignore[arg-type]
        table=named,
        task=task,  # type: ignore[arg-type]
        classes=None if classes is None else list(classes),
    )
    return scan_of(section)


def by_path(found: Scan) -> dict[str, Row]:
    """Rows by the image's path, or by name where there is none."""
    return {row.path or row.name: row for row in found.rows}
