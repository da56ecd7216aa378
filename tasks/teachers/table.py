"""A teacher that is a table: Parquet with logits of images by key, computed elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import UsageError
from infra.storage.store import Store
from tasks.data.weights import WeightsRef, weights_file

KEY, LOGITS = "key", "logits"

_LOADED: dict[tuple[str, tuple[str, ...]], TableTeacher] = {}
_LOADING = threading.Lock()


class TableTeacher:
    """Logits by key, in memory; a row whose logits are null is as good as none.

    Args:
        path: Parquet with a column `key` and either one list column `logits` or one column a class, named like the
            classes or 0 to C - 1; whatever else it has is ignored.
        classes: names of the C classes, in their order.
        private: whether its keys may be names that no message may repeat; rows are then named by number alone.

    Raises:
        UsageError: no such table; a key that is twice there, or logits of another number or not finite: file, column,
            row (from 0) and key are named.
    """

    def __init__(self, path: Path, classes: Sequence[str], *, private: bool = False) -> None:
        columns = check_table(path, classes)
        # Sorting strings and taking their rows is Arrow's; one array lets a shard's keys be found by bisection.
        table = pq.read_table(path, columns=[KEY, *columns])
        keys = table[KEY].cast(pa.string())
        if keys.null_count:
            raise UsageError(f"{path}: column {KEY}: row {int(np.argmax(keys.is_null().to_numpy()))} has no key")
        order = pc.sort_indices(keys)
        table = table.take(order).combine_chunks()
        self._keys = np.array(table[KEY].cast(pa.binary()).to_numpy(zero_copy_only=False), dtype=bytes)
        self._path, self._order, self._private = path, order.to_numpy(), private
        twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if len(twice):
            again = int(self._order[twice[0] + 1])
            raise self._error(KEY, int(twice[0]), f"it is there again in row {again}")
        self._logits, self._known = (
            self._from_list(table[LOGITS], len(classes)) if columns == [LOGITS] else self._from_columns(table, columns)
        )
        bad = ~np.isfinite(self._logits)
        if bad.any():
            row, column = (int(each[0]) for each in np.nonzero(bad))
            name = f"{LOGITS}, class {column}" if columns == [LOGITS] else columns[column]
            raise self._error(name, row, f"{self._logits[row, column]} is no finite number")

    def rows(self, keys: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 [N, C] and whether the table has the image, bool [N]; zeros where it has not."""
        logits = np.zeros((len(keys), self._logits.shape[1]), dtype=np.float32)
        wanted = np.array([str(key).encode() for key in keys], dtype=bytes)
        if not len(self._keys) or not len(keys):
            return logits, np.zeros(len(keys), dtype=bool)
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        known = (self._keys[place] == wanted) & self._known[place]
        logits[known] = self._logits[place[known]]
        return logits, known

    def some_keys(self, count: int = 100) -> list[str]:
        """The first keys, for messages."""
        return [_text(key) for key in self._keys[:count]]

    def _from_list(self, column: pa.ChunkedArray, count: int) -> tuple[np.ndarray, np.ndarray]:
        widths = pc.list_value_length(column).fill_null(count).to_numpy()
        wrong = np.flatnonzero(widths != count)
        if len(wrong):
            raise self._error(LOGITS, int(wrong[0]), f"{widths[wrong[0]]} numbers, the corpus has {count} classes")
        known = column.is_valid().to_numpy()
        # Flattening leaves out the lists that are null, and what lies under them.
        values = _numbers(pc.list_flatten(column)).reshape(-1, count)
        if known.all():
            return values, known
        logits = np.zeros((len(column), count), dtype=values.dtype)
        logits[known] = values
        return logits, known

    def _from_columns(self, table: pa.Table, columns: list[str]) -> tuple[np.ndarray, np.ndarray]:
        absent = np.stack([table[name].is_null().to_numpy() for name in columns], axis=1)
        known = np.asarray(~absent.all(axis=1))
        half = np.flatnonzero(known & absent.any(axis=1))
        if len(half):
            raise self._error(columns[int(np.argmax(absent[half[0]]))], int(half[0]), "it is empty, others are not")
        logits = np.stack([_numbers(table[name]) for name in columns], axis=1)
        logits[~known] = 0
        return logits, known

    def _error(self, column: str, row: int, what: str) -> UsageError:
        key = "" if self._private else f", key {_text(self._keys[row])}"
        return UsageError(f"{self._path}: column {column}, row {self._order[row]}{key}: {what}")


def check_table(path: Path, classes: Sequence[str]) -> list[str]:
    """Columns that hold the logits: `logits` alone, or one a class in their order. Only the schema is read.

    Raises:
        UsageError: no Parquet file, or it has not the columns that a teacher needs.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path} is no Parquet file: {error}") from error
    if KEY not in schema.names or not _is_text(schema.field(KEY).type):
        raise UsageError(f"{path}: there is no text column {KEY}; its columns are {', '.join(schema.names)}")
    if LOGITS in schema.names:
        kind = schema.field(LOGITS).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise UsageError(f"{path}: column {LOGITS} is {kind}, not a list of numbers")
        _check_numbers(path, LOGITS, kind.value_type)
        if pa.types.is_fixed_size_list(kind) and kind.list_size != len(classes):
            raise UsageError(
                f"{path}: column {LOGITS}: {kind.list_size} numbers, the corpus has {len(classes)} classes"
            )
        return [LOGITS]
    numbers = [str(number) for number in range(len(classes))]
    if set(classes) <= set(schema.names):
        columns = list(classes)
    elif set(numbers) <= set(schema.names):
        columns = numbers
        if str(len(classes)) in schema.names:
            raise UsageError(f"{path}: column {len(classes)}: the corpus has only {len(classes)} classes")
    else:
        absent = next(name for name in classes if name not in schema.names)
        raise UsageError(
            f"{path}: there is neither a column {LOGITS} nor one a class: {absent} is missing (columns may also be "
            f"named 0 to {len(classes) - 1}); its columns are {', '.join(schema.names)}"
        )
    for name in columns:
        _check_numbers(path, name, schema.field(name).type)
    return columns


def load_table(weights: WeightsRef, classes: Sequence[str], name: str, store: Store, *, private: bool) -> TableTeacher:
    """A stored table, loaded once in the life of this process.

    Args:
        name: of the teacher, for messages.
        private: see `TableTeacher`.

    Raises:
        UsageError: see `TableTeacher`.
        CorruptError: the file is not the one that the run began with.
    """
    place = (weights.sha256, tuple(classes))
    with _LOADING:
        table = _LOADED.get(place)
        if table is None:
            path = weights_file(weights, name, store)
            assert path is not None
            try:
                table = _LOADED[place] = TableTeacher(path, classes, private=private)
            except UsageError as error:
                raise UsageError(f"teacher {name}: {error}") from error
        return table


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Half and single precision as they are, anything else as float32; null is NaN."""
    kind = column.type if column.type in (pa.float16(), pa.float32()) else pa.float32()
    return np.asarray(column.cast(kind, safe=False).to_numpy())


def _check_numbers(path: Path, column: str, kind: pa.DataType) -> None:
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UsageError(f"{path}: column {column} holds {kind}, not numbers")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _text(key: bytes) -> str:
    return key.decode()
