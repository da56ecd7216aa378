"""Predictions that the champion made in service, from a Parquet log that the clinic writes.

Columns, of a file or of every file of a folder:
- `p(CLASS)` for every class, probabilities as `stillroom predict` writes them; or
- `prediction`, or `class`, the name of the class that the champion decided for;
- optional `site`, text.
Further columns, such as the time or the image's name, are not read. Rows whose `error` is not null have no answer and
are left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.digest import digest_of, sha256_bytes, sha256_file
from infra.errors import UsageError
from infra.storage.store import MissingObjectError, Store
from models.statistics.two_samples import largest_distribution_gap, largest_prevalence_gap, total_variation
from tasks.data.weights import IN_STORE
from tasks.drift.compare import confidence
from tasks.drift.images import MOST, Sample, sample_of
from tasks.drift.reference import Answers
from tasks.drift.signals import Signal, measured

KEY = "drift.predictions"
_NAMES = ("prediction", "class")
_TOLERANCE = 0.02  # of a sum of probabilities that were rounded


@dataclass(frozen=True)
class Log:
    """What was logged of N predictions.

    Attributes:
        prob: float64 [N, C] in the order of the classes, or None.
        decided: int [N], or None where only probabilities were logged.
        site: [N] str, or None.
    """

    prob: np.ndarray | None
    decided: np.ndarray | None
    site: np.ndarray | None

    def __len__(self) -> int:
        return len(self.prob if self.prob is not None else self.decided if self.decided is not None else ())


def log_digest(place: str, store: Store) -> str:
    """sha256 of a log's bytes, of a folder over all its files.

    Raises:
        UsageError: there is no such file, folder or object, or a folder without Parquet files.
    """
    if place.startswith(IN_STORE):
        return sha256_bytes(_stored(place, store))
    return digest_of([sha256_file(path) for path in _files(place)])


def read_log(place: str, store: Store, classes: Sequence[str], *, many: bool) -> Log:
    """Read and check a log.

    Args:
        classes: of the champion, in its order.
        many: several labels an image.

    Raises:
        UsageError: no such file, no Parquet, columns are missing, or a cell is no probability or no class.
    """
    if place.startswith(IN_STORE):
        sources: list[tuple[str, Path | io.BytesIO]] = [(place, io.BytesIO(_stored(place, store)))]
    else:
        sources = [(str(path), path) for path in _files(place)]
    parts = [_part(name, source, classes, many=many) for name, source in sources]
    kinds = {(part.prob is None, part.site is None) for part in parts}
    if len(kinds) > 1:
        raise UsageError(f"{KEY}: the files of {place} have different columns; write all with the same ones")

    def together(arrays: list[np.ndarray | None]) -> np.ndarray | None:
        known = [each for each in arrays if each is not None]
        return np.concatenate(known) if known else None

    return Log(*(together([getattr(part, name) for part in parts]) for name in ("prob", "decided", "site")))


def production_signals(
    log: Log, answers: Answers, trained_sites: np.ndarray | None, least: int, *, many: bool
) -> Iterator[Signal]:
    """A log against the champion's own answers on its validation and test images.

    Args:
        trained_sites: [M] str of the images that it learned from; None where they are not known.
    """
    name = "classes in service"
    count = len(answers.prob)
    if min(len(log), count) < least:
        few = f"{len(log)} logged predictions, {count} of the champion's evaluation: fewer than drift.least"
        yield Signal("production_classes", name, None, note=few)
        return
    sample = _beside(len(log), count, least)
    if log.prob is None:
        assert log.decided is not None
        own = answers.decided if answers.decided is not None else answers.prob.argmax(axis=1)
        kinds = np.concatenate([log.decided, own])[sample.rows]
        yield measured("production_classes", name, total_variation(kinds), sample)
    else:
        prob = np.concatenate([log.prob, answers.prob])[sample.rows]
        if many:
            classes = largest_prevalence_gap((prob >= 0.5).astype(np.int8))
        else:
            classes = total_variation(prob.argmax(axis=1))
        yield measured("production_classes", name, classes, sample)
        sure = largest_distribution_gap(confidence(prob, many=many))
        yield measured("production_confidence", "confidence in service", sure, sample)
    yield from _sites(log, trained_sites, least)


def _sites(log: Log, trained: np.ndarray | None, least: int) -> Iterator[Signal]:
    if log.site is None or trained is None:
        return
    logged, known = log.site[log.site != ""], trained[trained != ""]
    if min(len(logged), len(known)) < least:
        few = f"{len(logged)} logged predictions and {len(known)} training images have a site: fewer than drift.least"
        yield Signal("production_site", "sites in service", None, note=few)
        return
    sample = _beside(len(logged), len(known), least)
    values = np.concatenate([logged, known])[sample.rows].astype(str)
    unseen = set(values[sample.sides.new]) - set(values[~sample.sides.new])
    note = f"{len(unseen)} never seen before" if unseen else ""
    kinds = np.unique(values, return_inverse=True)[1]
    yield measured("production_site", "sites in service", total_variation(kinds), sample, note)


def _beside(new: int, old: int, least: int) -> Sample:
    """A sample of rows that are `new` first; each row stands for itself."""
    names = np.arange(new + old).astype(str).astype(object)
    flags = np.arange(new + old) < new
    found = sample_of(flags, np.zeros(len(flags), np.int64), names, names, least, MOST)
    assert found is not None
    return found


def _part(name: str, source: Path | io.BytesIO, classes: Sequence[str], *, many: bool) -> Log:
    try:
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{KEY}: {name} is no Parquet file: {error}") from None
    columns = [f"p({each})" for each in classes]
    found = [each for each in columns if each in names]
    decided = next((each for each in _NAMES if each in names), None)
    if found and len(found) < len(columns):
        missing = ", ".join(each for each in columns if each not in found)
        raise UsageError(f"{KEY}: {name} has {', '.join(found)}, but not {missing}; write one column for every class")
    if not found and (decided is None or many):
        raise UsageError(
            f"{KEY}: {name} has the columns {', '.join(names)}; it needs {', '.join(columns)} (probabilities)"
            + ("" if many else ", or `prediction` with the name of a class")
        )
    wanted = [*(found or [str(decided)]), *(each for each in ("site", "error") if each in names)]
    table = file.read(columns=wanted)
    if "error" in table.column_names:
        table = table.filter(table["error"].is_null())
    site = None
    if "site" in table.column_names:
        site = np.array(["" if each is None else str(each) for each in table["site"].to_pylist()], object)
    if not found:
        return Log(None, _numbers(name, str(decided), table, classes), site)
    return Log(_probabilities(name, columns, table, many=many), None, site)


def _probabilities(name: str, columns: Sequence[str], table: pa.Table, *, many: bool) -> np.ndarray:
    try:
        parts = [table[each].cast(pa.float64()).to_numpy() for each in columns]
    except pa.ArrowException as error:
        raise UsageError(f"{KEY}: {name}: probabilities are no numbers: {error}") from None
    prob = np.stack(parts, axis=1) if len(table) else np.zeros((0, len(columns)))
    wrong = ~((prob >= 0) & (prob <= 1)).all(axis=1)
    if not many:
        wrong |= np.abs(prob.sum(axis=1) - 1) > _TOLERANCE
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        asked = "numbers from 0 to 1" + ("" if many else " whose sum is 1")
        shown = ", ".join(f"{value:g}" for value in prob[row])
        raise UsageError(
            f"{KEY}: {name}: {int(wrong.sum())} rows have no probabilities ({asked}); row {row + 1} of those with an "
            f"answer has {shown}"
        )
    return prob


def _numbers(name: str, column: str, table: pa.Table, classes: Sequence[str]) -> np.ndarray:
    number = {each: place for place, each in enumerate(classes)}
    values = table[column].to_pylist()
    unknown = sorted({str(each) for each in values if str(each) not in number})
    if unknown:
        raise UsageError(
            f"{KEY}: {name}: column {column} has {', '.join(unknown[:3])}, and the champion's classes are "
            f"{', '.join(classes)}; write their names"
        )
    return np.array([number[str(each)] for each in values], np.int64)


def _stored(place: str, store: Store) -> bytes:
    try:
        return store.get(place.removeprefix(IN_STORE))
    except MissingObjectError:
        raise UsageError(f"{KEY}: the store has no {place.removeprefix(IN_STORE)}") from None


def _files(place: str) -> list[Path]:
    path = Path(place)
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if not found:
        what = "no Parquet file in the folder" if path.is_dir() else "no file or folder"
        raise UsageError(f"{KEY}: there is {what} {place}; name the log, or leave {KEY} out")
    return found
