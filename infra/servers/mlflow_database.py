"""MLflow's SQLite database: made whole or not at all, once, and mended when another program left half of one.

MLflow itself brings a new file through dozens of migrations. Two processes that do so at once, or one that is killed,
leave a file that MLflow never opens again. Here the file is made beside its place, behind a lock, and then moved.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from infra.errors import PermanentError, UsageError
from infra.servers.file_lock import FileLock

PREFIX = "sqlite:///"
BUSY_SECONDS = 20.0

_HELD = ("runs", "registered_models", "logged_models")  # tables whose rows somebody would miss
_ready: set[tuple[str, int]] = set()


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for another database or a server."""
    if not uri.startswith(PREFIX) or ":memory:" in uri:
        return None
    return Path(uri.removeprefix(PREFIX).partition("?")[0]).absolute()


def prepare(uri: str, artifacts: str = "") -> None:
    """Make a SQLite database of MLflow's, unless it is there; other addresses are left alone.

    A file that MLflow left half made, without anything in it, is put aside as `NAME.broken-TIME`.

    Args:
        artifacts: address under which MLflow's own default experiment keeps its files.

    Raises:
        UsageError: the file is no database of MLflow's, of another version, or half made with runs in it.
        PermanentError: it cannot be made or read.
    """
    path = database_file(uri)
    if path is None or (str(path), _inode(path)) in _ready:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(lambda: path.with_name(f"{path.name}.lock")):
            if _inode(path) and path.stat().st_size and not _whole(path):
                aside = path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%dT%H%M%S')}")
                path.rename(aside)
            if not _inode(path) or not path.stat().st_size:
                _make(path, artifacts)
    except OSError as error:
        raise PermanentError(f"MLflow's database {path} cannot be made: {error.strerror or error}") from error
    _ready.add((str(path), _inode(path)))


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _whole(path: Path) -> bool:
    """Whether MLflow can work with the file; False when it is half made and empty."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            revisions: list[Any] = []
            if "alembic_version" in tables:
                revisions = [row[0] for row in database.execute("SELECT version_num FROM alembic_version")]
            held = {name: _rows(database, name) for name in _HELD if name in tables}
    except sqlite3.Error as error:
        raise UsageError(
            f"MLflow's database {path} is not one ({error}); move it away, or set STILLROOM_MLFLOW_URI"
        ) from error
    if revisions == [latest_revision()]:
        return True
    if tables and not tables & {"experiments", "alembic_version", "metrics", "_alembic_tmp_metrics", *_HELD}:
        raise UsageError(f"{path} is a database of another program; set STILLROOM_MLFLOW_URI to one of MLflow's")
    if any(held.values()):
        raise UsageError(
            f"MLflow's database {path} has the schema {', '.join(revisions) or 'of none'}, and this version of MLflow "
            f"wants {latest_revision()}; save a copy, then run `mlflow db upgrade {PREFIX}{path}`"
        )
    return False


def _rows(database: sqlite3.Connection, table: str) -> bool:
    return database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def latest_revision() -> str:
    """The schema that the installed MLflow works with."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def _make(path: Path, artifacts: str) -> None:
    """A new database, moved to its place when it is whole; what killed processes left is removed."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in path.parent.glob(f"{path.name}.new*"):
        left.unlink()
    new = path.with_name(f"{path.name}.new")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    store = SqlAlchemyStore(f"{PREFIX}{new}", artifacts or path.with_name("mlartifacts").as_uri())
    store.engine.dispose()
    with closing(sqlite3.connect(new)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with new.open("rb") as file:
        os.fsync(file.fileno())
    for rest in (f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(rest).unlink(missing_ok=True)
    new.rename(path)
