"""Whether a table has rows for the images that it is to teach, seen before any shard is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import BudgetError, UsageError
from tasks.data.tombstones import Tombstones
from tasks.label.teacher_units import TeacherUnits
from tasks.teachers.table import KEY, TableTeacher

_OTHERWISE: dict[str, Callable[[str], str]] = {
    "without its file's suffix": lambda key: PurePosixPath(key).stem if "/" not in key else key.rpartition(".")[0],
    "without its folders": lambda key: PurePosixPath(key).name,
    "without its folders and its file's suffix": lambda key: PurePosixPath(key).stem,
    "in small letters": str.lower,
}


def refuse_erased_rows(path: Path, name: str, tombstones: Tombstones) -> None:
    """Keep a table with logits of erased images out of the store.

    Args:
        path: of the table, as the spec names it.
        name: of the teacher.

    Raises:
        UsageError: it has such rows; their keys are not repeated.
    """
    if not tombstones:
        return
    keys = pq.read_table(path, columns=[KEY])[KEY].cast(pa.string())
    count = len(tombstones.erased("key", keys.to_pylist()))
    if count:
        raise UsageError(
            f"teacher {name}: {path} has logits of {count} images that were erased from the store by request; take "
            "out the rows of every image that the catalog does not have"
        )


def check_table_keys(own: TeacherUnits, table: TableTeacher, allowed: int, *, private: bool) -> None:
    """Compare a table's keys with those of the training images; other splits learn nothing of a teacher.

    Args:
        allowed: training images that it may lack.
        private: whether keys of the table may be names that no message may repeat.

    Raises:
        UsageError: it has none of them; a key of each side is shown, and how to write them where that can be seen.
        BudgetError: it lacks more than are allowed.
    """
    keys = np.concatenate([np.empty(0, object), *(shard.keys for shard in own.corpus.of_split("train"))])
    known = table.rows(keys)[1]
    lacking = int((~known).sum())
    if not len(keys) or (lacking <= allowed and known.any()):
        return
    name = own.teacher.name
    if known.any():
        raise BudgetError(
            f"teacher {name}: its table has no logits of {lacking:,} of {len(keys):,} training images, more than the "
            f"{allowed:,} that run.label.max_bad and max_bad_share allow; the first is {keys[np.argmin(known)]}. Where "
            "that is meant, raise run.label.max_bad_share"
        )
    theirs, wanted = table.some_keys(), set(keys.tolist())
    shown = f" such as {keys[0]}" + (f", the table's are such as {theirs[0]}" if theirs and not private else "")
    fitting = next((how for how, write in _OTHERWISE.items() if any(write(key) in wanted for key in theirs)), None)
    advice = (
        f"write each key {fitting} in its column key"
        if fitting is not None
        else "write its column key with the keys of the corpus, which `stillroom inspect STORE` shows"
    )
    raise UsageError(
        f"teacher {name}: its table has logits of none of {len(keys):,} training images: keys of the corpus are"
        f"{shown}; {advice}"
    )
