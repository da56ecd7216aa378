"""The proof that a packed student answers as it was evaluated, on stored images and on the files they came from."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import PermanentError, StillroomError, UsageError
from infra.servers.tracking import quiet
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus, load_image
from tasks.preprocessing.dicomfile import can_read_dicom, is_dicom
from tasks.sources import open_source
from tasks.sources.as_ingested import read_as_ingested
from tasks.spec import CorpusSection

TOLERANCE = 0.01
"""Largest difference of a probability. The inputs are equal bit for bit; a GPU adds up in another order than a CPU."""

CHECKED = 8
"""Test images that are compared."""


@dataclass(frozen=True)
class Parity:
    """How far the packed model is from the evaluation."""

    largest: float  # difference of a probability
    images: int  # compared as they are stored
    sources: str  # what came of comparing them as source files, or why none was compared


def parity(
    corpus: Corpus, chosen: Manifest, report: Manifest, packed: Path, sections: Sequence[CorpusSection]
) -> Parity:
    """Compare the packed model with the evaluation's predictions on a few test images, stored and as source files.

    Source files are those that a root still holds as they were ingested; those of a private corpus are not looked for,
    because the store does not know their names.

    Args:
        packed: folder of the model.
        sections: the spec's corpora.

    Raises:
        PermanentError: a probability differs by more than `TOLERANCE`; the image's key is named.
        UsageError: the report does not judge this student.
    """
    expected = _predictions(corpus, chosen, report)
    keys = sorted(expected)
    picked = keys[:: max(1, len(keys) // CHECKED)][:CHECKED]
    with quiet():
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(str(packed))
    student = model.unwrap_python_model()
    rows = {str(k): (shard, r) for shard in corpus.of_split("test") for r, k in enumerate(shard.keys)}
    views, largest = {}, 0.0
    for key in picked:
        views[key] = student.preprocessing.view(load_image(corpus.store, *rows[key]))
        gap = float(np.abs(student.probabilities(views[key][None])[0] - expected[key]).max())
        largest = max(largest, _checked(gap, key, "its evaluation"))
    files, why = _source_files(corpus, sections, picked)
    if why:
        return Parity(largest, len(picked), f"not compared: {why}")
    furthest, levels = 0.0, 0
    for key, data in files.items():
        try:
            found = student.probabilities_of(data)[0]
        except ValueError as error:
            why = f"the packed student cannot read the source file of test image {key}: {error}"
            raise PermanentError(why) from None
        gap = float(np.abs(found - expected[key]).max())
        furthest = max(furthest, _checked(gap, key, "its evaluation, given the source file,"))
        levels = max(levels, int(np.abs(student.view(data).astype(int) - views[key]).max()))
    same = "inputs equal" if not levels else f"inputs within {levels} of 255"
    told = f"{len(files)} of {len(picked)} source files: {same}, probabilities within {furthest:.6f}"
    return Parity(max(largest, furthest), len(picked), told)


def _checked(gap: float, key: str, what: str) -> float:
    if not gap <= TOLERANCE:
        raise PermanentError(
            f"the packed student differs by {gap:.3f} from {what} on test image {key} "
            f"(at most {TOLERANCE} is allowed), so it is not registered; report this with the model's name"
        )
    return gap


def _source_files(
    corpus: Corpus, sections: Sequence[CorpusSection], keys: Sequence[str]
) -> tuple[dict[str, bytes], str]:
    """Bytes of the images' source files, of those that are as they were ingested; why there are none, or ""."""
    found: dict[str, bytes] = {}
    why = []
    # Of several corpora a student prepares images as those of one: others, stored otherwise, are no test of it.
    ways = corpus.manifest.section.get("corpora", [corpus.manifest.section] * len(sections))
    same = [way.get("ingest") == corpus.manifest.section["ingest"] for way in ways]
    for section in (section for section, alike in zip(sections, same, strict=True) if alike):
        own, reason = _files_of(corpus, section, keys)
        found |= own
        why += [reason] if reason else []
    if not found:
        return {}, "; ".join(dict.fromkeys(why))
    if any(is_dicom(data) for data in found.values()) and not can_read_dicom():
        return {}, "the source files are DICOM, and pydicom is not installed"
    return found, ""


def _files_of(corpus: Corpus, section: CorpusSection, keys: Sequence[str]) -> tuple[dict[str, bytes], str]:
    """`_source_files` of one corpus, DICOM included."""
    if section.private:
        return {}, "the corpus is private"
    catalog = corpus.catalog.filter(pc.is_in(corpus.catalog["key"], value_set=pa.array(keys)))
    rows = {row["key"]: row for row in catalog.select(["key", "source", "source_sha256"]).to_pylist()}
    try:
        source = open_source(section.root)
        listed = source.files()
    except (StillroomError, OSError):
        return {}, "corpus.root cannot be read any more"
    found = {}
    for key in keys:
        data = read_as_ingested(source, listed, rows[key]["source"], rows[key]["source_sha256"])
        if data is not None:
            found[key] = data
    return found, "" if found else "corpus.root has none of the files as they were ingested"


def _predictions(corpus: Corpus, chosen: Manifest, report: Manifest) -> dict[str, np.ndarray]:
    facts: Mapping[str, Any] = chosen.facts
    table = pq.read_table(
        io.BytesIO(corpus.store.get(report.output(kind="predictions").name)),
        filters=[("arm", "=", facts["arm"]), ("seed", "=", facts["seed"]), ("split", "=", "test")],
    )
    if not table.num_rows:
        raise UsageError(f"report {report.key[:12]} does not judge {facts['arm']} seed {facts['seed']}")
    return dict(zip(table["key"].to_pylist(), map(np.array, table["prob"].to_pylist()), strict=True))
