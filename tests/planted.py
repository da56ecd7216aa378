"""Search for planted words in everything that a run leaves behind: names, bytes, tables, databases, base64."""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.data.catalog import from_parquet

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")


def findings(places: Iterable[Path], words: Iterable[str]) -> list[str]:
    """`file: word` for each planted word in a name below the places, or in a form of a file's content."""
    wanted = [word.lower() for word in words]
    found = []
    for place in places:
        for path in sorted(place.rglob("*")):
            texts = [str(path.relative_to(place)).encode()]
            if path.is_file():
                texts += _forms(path)
            found += [f"{path}: {word}" for word in wanted if any(_holds(text, word) for text in texts)]
    return found


def _holds(text: bytes, word: str) -> bool:
    low = text.lower()
    return word.encode() in low or word.encode("utf-16-le") in low


def _forms(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    forms = [data]
    if data.startswith(b"PAR1"):
        forms.append(str(from_parquet(data).to_pylist()).encode("utf-8", "surrogateescape"))
    if data.startswith(b"SQLite format 3"):
        # A long value lies in pieces on several pages.
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            database.text_factory = lambda value: value.decode("utf-8", "replace")
            forms.append("\n".join(database.iterdump()).encode("utf-8", "replace"))
        database.close()
    for form in forms:
        yield form
        for run in _BASE64.findall(form):
            whole = run.rstrip(b"=")
            try:
                yield base64.b64decode(whole + b"=" * (-len(whole) % 4), altchars=b"-_" if b"-" in run else None)
            except binascii.Error:
                continue
