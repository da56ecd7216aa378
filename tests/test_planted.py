"""The search for planted words finds them in every form in which it looks."""

from __future__ import annotations

import base64
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.planted import findings

WORD = "Mustermann"


def plain(path: Path) -> None:
    path.write_text(f"patient {WORD.upper()}")


def wide(path: Path) -> None:
    path.write_bytes(WORD.encode("utf-16-le"))


def packed_table(path: Path) -> None:
    pq.write_table(pa.table({"a": [f"{number} {WORD}" for number in range(99)]}), path, compression="zstd")


def pickled(path: Path) -> None:
    path.write_text(f'{{"data": "{base64.b64encode(pickle.dumps(ValueError(WORD))).decode()}"}}')


def database(path: Path) -> None:
    with sqlite3.connect(path) as opened:
        opened.execute("create table runs (state text)")
        opened.execute("insert into runs values (?)", ["x" * 4070 + WORD + "y" * 9000])
    opened.close()


@pytest.mark.parametrize("form", [plain, wide, packed_table, pickled, database], ids=lambda form: form.__name__)
def test_a_word_is_found(form: Callable[[Path], None], tmp_path: Path) -> None:
    form(tmp_path / "file")
    assert findings([tmp_path], [WORD]) == [f"{tmp_path}/file: mustermann"]
    assert findings([tmp_path], ["Musterfrau"]) == []


def test_a_word_in_a_name_is_found(tmp_path: Path) -> None:
    (tmp_path / WORD).mkdir()
    assert findings([tmp_path], [WORD]) == [f"{tmp_path}/{WORD}: mustermann"]
