"""A folder of images with a table of classes as a corpus: what benchmarks give to the real stages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.spec import Spec


def lay_out(root: Path, images: Sequence[Path], classes: Sequence[str]) -> None:
    """A corpus of copies of the images and its table, a row an image; several classes are parted by `|`."""
    (root / "images").mkdir(parents=True)
    for image in images:
        shutil.copy(image, root / "images" / image.name)
    rows = "".join(f"{image.name},{own}\n" for image, own in zip(images, classes, strict=True))
    (root / "labels.csv").write_text(f"name,class\n{rows}")


def spec_of(root: Path, store: Path, *, task: str, classes: int, per_shard: int, **sections: Any) -> Spec:
    """As a user would write it; files stay as they are, so that all contenders decode the same bytes.

    Args:
        root: folder that `lay_out` made; all of it is training images.
        task: single or multilabel.
        sections: the others of the spec.
    """
    return Spec.model_validate(
        {
            "name": "bench",
            "store": str(store),
            "corpus": {
                "adapter": "table",
                "root": root,
                "name": "bench",
                "modality": "other",
                "task": task,
                "table": {"csv": "labels.csv", "images": "images", "image": "name", "label": "class"},
                "classes": [str(n) for n in range(classes)],
                "split": {"val": 0, "test": 0},
            },
            "ingest": {"encode": "keep", "shard_size": per_shard},
            **sections,
        }
    )
