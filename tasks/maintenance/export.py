"""What inspect writes for people: a contact sheet, soft labels as Parquet."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore, Store
from tasks.data.corpus import Corpus
from tasks.drawing.contact_sheet import EACH, contact_sheet
from tasks.maintenance.find import Finder, Named
from tasks.maintenance.teaching import soft_parquet


def sheet_of(finder: Finder, what: str | None = None, *, each: int = EACH) -> bytes:
    """A contact sheet as PNG.

    Args:
        what: title of a corpus, or name (or part) of a shard; default the only corpus of the store.
        each: pictures a class.

    Raises:
        UsageError: it is neither, or the store has several corpora and none is named.
    """
    manifest, shard = _chosen(finder, what)
    return contact_sheet(Corpus(finder.store, manifest), shard, each=each)


def write_sheet(store: Store, what: str | None, path: Path) -> None:
    """A contact sheet under `path`; errors as `sheet_of`."""
    _write(path, sheet_of(Finder(store), what))


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


def _chosen(finder: Finder, what: str | None) -> tuple[Manifest, str | None]:
    if what is None:
        if len(finder.heads) != 1:
            raise UsageError(f"the store holds the corpora {', '.join(finder.heads) or '(none)'}: name one of them")
        return next(iter(finder.heads.values())), None
    if what in finder.heads:
        return finder.heads[what], None
    named: Named = finder.object(what)
    if named.kind != "shard":
        raise UsageError(f"{named.output.name}: a contact sheet is of a corpus or a shard")
    return named.manifest, named.output.name


def _write(path: Path, data: bytes) -> None:
    folder = path.expanduser().resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no folder {folder}")
    # A store's `put` leaves nothing half-written under a final name.
    LocalStore(folder).put(path.name, data)
