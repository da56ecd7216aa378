"""What inspect writes for people: a contact sheet, soft labels as Parquet."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UsageError
from infra.store import LocalStore, Store
from tasks.keep.contact import contact_sheet
from tasks.keep.find import Finder
from tasks.keep.teaching import soft_parquet


def write_sheet(store: Store, what: str | None, path: Path) -> None:
    """A contact sheet under `path`; errors as `tasks.keep.contact.contact_sheet`."""
    _write(path, contact_sheet(Finder(store), what))


def write_parquet(store: Store, what: str | None, path: Path) -> None:
    """A soft-label file as Parquet (key, teacher, view, logits, partner, features) under `path`.

    Raises:
        UsageError: `what` names no soft-label file.
    """
    finder = Finder(store)
    named = finder.object(what) if what is not None else None
    if named is None or named.kind != "soft":
        raise UsageError("--parquet exports one soft-label file: name it, as labels/... or a part of that")
    _write(path, soft_parquet(finder, named))


def _write(path: Path, data: bytes) -> None:
    folder = path.expanduser().resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no folder {folder}")
    # A store's `put` leaves nothing half-written under a final name.
    LocalStore(folder).put(path.name, data)
