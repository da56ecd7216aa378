"""Packing folders as publishers do."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def zip_of(folder: Path, target: Path, *, within: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of the folder's content; `within` is a folder that it is packed in."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in files_of(folder):
            archive.write(path, within + path.relative_to(folder).as_posix())
    return target


def cut(whole: Path, target: Path, parts: int) -> Path:
    """The file in so many plain cuts beside `target` (`x.zip.001`); all but the last of one length."""
    data = whole.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    size = -(-len(data) // parts)
    for number in range(parts):
        target.with_name(f"{target.name[:-3]}{number + 1:03d}").write_bytes(data[number * size : (number + 1) * size])
    return target


def tar_of(folder: Path, target: Path, *, within: str = "", style: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of the folder's content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w", format=style) as archive:
        for path in files_of(folder):
            archive.add(path, within + path.relative_to(folder).as_posix())
    return target


def zip_with(target: Path, entries: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these entries, whatever their names."""
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return target
