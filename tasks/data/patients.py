"""What is known of patients, without whom nobody can say that no patient stands in two splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.catalog import OK

UNCHECKED = "patient leakage cannot be checked"


def images_without_patient(catalog: pa.Table) -> dict[str, int]:
    """Stored images of a catalog (`images`), and those of them whose patient is not known (`unknown`)."""
    stored = pc.equal(catalog["status"], OK)
    unknown = pc.and_(stored, pc.equal(catalog["patient"], ""))
    return {"images": int(pc.sum(stored).as_py() or 0), "unknown": int(pc.sum(unknown).as_py() or 0)}


def leakage_text(found: Mapping[str, Any]) -> str | None:
    """What people must know where patients are not known; None where all are.

    Args:
        found: as `images_without_patient` tells it.
    """
    images, unknown = found["images"], found["unknown"]
    if not unknown:
        return None
    if unknown == images:
        return f"{UNCHECKED}: no patient is known, and each image stands for a patient of its own"
    return f"{UNCHECKED} for {unknown:,} of {images:,} images, whose patient is not known"
