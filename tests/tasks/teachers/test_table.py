"""Tables of logits: what they say of which keys, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UsageError
from tasks.teachers.table import TableTeacher, check_table

CLASSES = ["healthy", "sick"]
NAN = float("nan")


def write(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "logits.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {"logits": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]},
        {"logits": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float16(), 2))},
        {"logits": pa.array([[1, 2], [3, 4], [5, 6]], pa.large_list(pa.int64()))},
        {"sick": [2.0, 4.0, 6.0], "healthy": [1.0, 3.0, 5.0], "site": ["x", "y", "z"]},
        {"1": [2.0, 4.0, 6.0], "0": [1.0, 3.0, 5.0]},
    ],
    ids=["list", "fixed", "large", "names", "numbers"],
)
def test_logits_are_found_by_key_in_any_layout(tmp_path: Path, columns: dict[str, Any]) -> None:
    table = TableTeacher(write(tmp_path, {"key": ["c", "a", "b"], **columns}), CLASSES)
    logits, asked = table.rows(np.array(["a", "unknown", "c", "a-longer-key"], dtype=object))
    assert logits.dtype == np.float32
    assert logits.tolist() == [[3, 4], [0, 0], [1, 2], [0, 0]]
    assert asked.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    "columns",
    [{"logits": [[1.0, 2.0], None, [5.0, 6.0]]}, {"healthy": [1.0, None, 5.0], "sick": [2.0, None, 6.0]}],
    ids=["list", "columns"],
)
def test_a_row_without_logits_is_not_asked(tmp_path: Path, columns: dict[str, Any]) -> None:
    logits, asked = TableTeacher(write(tmp_path, {"key": ["a", "b", "c"], **columns}), CLASSES).rows(["c", "b"])
    assert (logits.tolist(), asked.tolist()) == ([[5, 6], [0, 0]], [True, False])


def test_keys_may_be_any_text(tmp_path: Path) -> None:
    keys = ["ü", "z", "日本", "a" * 200]
    table = TableTeacher(write(tmp_path, {"key": keys, "logits": [[n, n] for n in (1.0, 2.0, 3.0, 4.0)]}), CLASSES)
    assert table.rows(keys)[0][:, 0].tolist() == [1, 2, 3, 4]


def test_an_empty_table_knows_nothing(tmp_path: Path) -> None:
    empty = write(tmp_path, {"key": pa.array([], pa.string()), "logits": pa.array([], pa.list_(pa.float32()))})
    assert TableTeacher(empty, CLASSES).rows(["a"])[1].tolist() == [False]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"key": ["a"], "healthy": [1.0]}, r"neither a column logits nor one a class: sick is missing"),
        ({"id": ["a"], "logits": [[1.0, 2.0]]}, r"there is no text column key; its columns are id, logits"),
        ({"key": [1], "logits": [[1.0, 2.0]]}, r"there is no text column key"),
        ({"key": ["a"], "logits": [1.0]}, r"column logits is double, not a list of numbers"),
        ({"key": ["a"], "logits": [["x", "y"]]}, r"column logits holds string, not numbers"),
        ({"key": ["a"], "healthy": [1.0], "sick": ["no"]}, r"column sick holds string, not numbers"),
        ({"key": ["a"], "0": [1.0], "1": [1.0], "2": [1.0]}, r"column 2: the corpus has only 2 classes"),
        (
            {"key": ["a"], "logits": pa.array([[1.0]], pa.list_(pa.float32(), 1))},
            r"logits: 1 numbers, ",
        ),
    ],
)
def test_a_schema_that_cannot_teach_is_refused_unread(tmp_path: Path, columns: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=rf"logits\.parquet.*{text}"):
        check_table(write(tmp_path, columns), CLASSES)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"key": ["b", "a", "b"], "logits": [[1.0, 2.0]] * 3}, "column key, row 0, key b: it is there again in row 2"),
        ({"key": ["a", None], "logits": [[1.0, 2.0]] * 2}, "column key: row 1 has no key"),
        (
            {"key": ["b", "a"], "logits": [[1.0], [1.0, 2.0]]},
            "column logits, row 0, key b: 1 numbers, ",
        ),
        (
            {"key": ["b", "a"], "logits": [[1.0, 2.0], [1.0, NAN]]},
            "column logits, class 1, row 1, key a: nan is no",
        ),
        (
            {"key": ["b", "a"], "logits": [[1.0, 2.0], [1.0, None]]},
            "column logits, class 1, row 1, key a: nan is no",
        ),
        ({"key": ["a"], "0": [1.0], "1": [float("inf")]}, "column 1, row 0, key a: inf is no finite number"),
        ({"key": ["a"], "0": [1.0], "1": pa.array([None], pa.float32())}, "column 1, row 0, key a: it is empty"),
    ],
)
def test_a_row_that_cannot_teach_is_named(tmp_path: Path, columns: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=rf"logits\.parquet: {text}"):
        TableTeacher(write(tmp_path, columns), CLASSES)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"key": ["Muster", "a", "Muster"], "logits": [[1.0, 2.0]] * 3},
            "column key, row 0: it is there again in row 2",
        ),
        (
            {"key": ["a", "Muster"], "logits": [[1.0, 2.0], [1.0, NAN]]},
            "column logits, class 1, row 1: nan is no",
        ),
    ],
)
def test_a_row_of_a_private_table_is_named_by_number_alone(tmp_path: Path, columns: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        TableTeacher(write(tmp_path, columns), CLASSES, private=True)
    assert "Muster" not in str(caught.value)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logits.csv").write_text("key,0,1\n")
    with pytest.raises(UsageError, match=r"logits\.csv is no Parquet file"):
        check_table(tmp_path / "logits.csv", CLASSES)
