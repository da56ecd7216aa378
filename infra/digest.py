"""Canonical JSON, sha256 and the key of a unit of work (DESIGN: Identity)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The one byte string that stands for a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_bytes(data: bytes | memoryview) -> str:
    """Hex sha256 of a byte string."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Hex sha256 of a JSON value."""
    return sha256_bytes(canonical_json(value))


def unit_key(
    stage: str,
    version: int,
    *,
    inputs: Iterable[str],
    section: Mapping[str, Any],
    weights: Iterable[str] = (),
) -> str:
    """Key of a unit: what made it, from what, how; never where or when.

    Args:
        stage: name of the stage.
        version: the stage's version, bumped by a person when its output changes.
        inputs: ids of the inputs, in the order in which they matter.
        section: the stage's own section of the resolved spec, without anything under `run:`.
        weights: ids of the weights used.
    """
    return digest_of([stage, version, list(inputs), dict(section), list(weights)])
