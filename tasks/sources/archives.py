"""Archives in a source: found, listed as if extracted beside them, and read by stamp.

The archive file itself stays in the listing.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.sources.archive_file import Blob
from tasks.sources.base import FILES, BlockReader, Lister, unreadable
from tasks.sources.passed_over import HIDDEN
from tasks.sources.tars import parse_tar_stamp, tar_blocks, tar_entries, tar_stamp
from tasks.sources.zip_bombs import ABSURD, OVERLAP, Extents, is_absurd
from tasks.sources.zips import parse_zip_stamp, zip_blocks, zip_members, zip_stamp

_ARCHIVE = r"\.(zip|tar|zip\.[0-9]{3,})$"
Listing = tuple[pa.Table, list[str]]  # files and notes
_PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


@dataclass(frozen=True)
class Archive:
    """An archive in a listing."""

    path: str  # the first part, where it was cut
    parts: tuple[str, ...]

    @property
    def folder(self) -> str:
        """What its entries' names follow: the folder that it lies in."""
        return self.path.rpartition("/")[0] + "/" if "/" in self.path else ""


def is_archive(path: str) -> bool:
    """Whether a name is that of an archive which is read in place, or of a part of one."""
    return re.search(_ARCHIVE, path, re.IGNORECASE) is not None


def is_packed_tar(path: str) -> bool:
    """Whether a name is that of a tar that was compressed as a whole, in which nothing can be found by offset."""
    return path.lower().endswith(_PACKED_TAR)


def find_archives(files: pa.Table, show: Callable[[str], str]) -> list[Archive]:
    """Every archive in a listing, by path.

    Args:
        show: what messages call a path.

    Raises:
        CorpusError: a part of a cut zip is missing, or shorter than the others.
    """
    paths = files["path"]
    wanted = pc.and_not(
        pc.match_substring_regex(paths, _ARCHIVE, ignore_case=True), pc.match_substring_regex(paths, HIDDEN)
    )
    found = files.filter(wanted)
    whole, cut = [], dict[str, dict[int, tuple[str, int]]]()
    for path, size in zip(found["path"].to_pylist(), found["size"].to_pylist(), strict=True):
        base, _, ending = path.rpartition(".")
        if ending.isdigit():
            cut.setdefault(base, {})[int(ending)] = path, size
        else:
            whole.append(Archive(path, (path,)))
    whole += [_joined(base, parts, show) for base, parts in cut.items()]
    return sorted(whole, key=lambda archive: archive.path)


def _joined(base: str, parts: dict[int, tuple[str, int]], show: Callable[[str], str]) -> Archive:
    missing = next((n for n in range(1, max(parts) + 1) if n not in parts), None)
    if missing is not None:
        there = ", ".join(parts[n][0].rpartition("/")[2] for n in sorted(parts)[:5])
        raise CorpusError(
            f"{show(f'{base}.{missing:03d}')} is missing ({there} are there); download it beside the others"
        )
    ordered = [parts[n] for n in sorted(parts)]
    most = max(size for _, size in ordered)
    cut = next((part for part in ordered[:-1] if part[1] != most), None)
    if cut is not None:
        raise CorpusError(f"{show(cut[0])}: {cut[1]} bytes, but other parts have {most}: it is cut; download it again")
    if not ordered[-1][1]:
        raise CorpusError(f"{show(ordered[-1][0])}: 0 bytes: it is cut; download it again")
    return Archive(ordered[0][0], tuple(path for path, _ in ordered))


def content(archive: Archive, blob: Blob, etag: str = "") -> pa.Table:
    """The archive's files, in its order, schema FILES.

    Args:
        etag: stands in the stamps of a zip's members.
    """
    found = Lister()
    folder, path = archive.folder, archive.path
    if path.lower().endswith(".tar"):
        version = blob.version
        for entry in tar_entries(blob):
            found.add(folder + entry.path, entry.size, tar_stamp(path, entry, version))
        return found.finish()
    extents = Extents()
    for member in zip_members(blob):
        extents.add(member)
        stamp = zip_stamp(path, member, etag) if not is_absurd(member) else f"x:{ABSURD}"
        found.add(folder + member.path, member.size, stamp)
    files = found.finish()
    overlapping = extents.overlapping()
    if overlapping.any():
        stamps = pc.if_else(pa.array(overlapping), f"x:{OVERLAP}", files["stamp"])
        files = files.set_column(FILES.get_field_index("stamp"), "stamp", stamps)
    return files


def merged(own: pa.Table, contents: Mapping[str, pa.Table], show: Callable[[str], str]) -> tuple[pa.Table, list[str]]:
    """The files of a listing and of its archives in one table, sorted, and notes for the user.

    A name that is there already wins over an archive's. Two archives may hold one file when it is the same.

    Raises:
        CorpusError: two entries of one archive, or different ones of two, have one name.
    """
    tables = [own, *contents.values()]
    origin = pa.array(np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables]))
    every = pa.concat_tables(tables).append_column("origin", origin)
    every = every.take(pc.sort_indices(every, sort_keys=[("path", "ascending"), ("origin", "ascending")]))
    every = every.combine_chunks()
    again = np.zeros(len(every), dtype=bool)
    if len(every):
        paths = every["path"].combine_chunks()
        again[1:] = pc.equal(paths[1:], paths[:-1]).to_numpy(zero_copy_only=False)
    if not again.any():
        return every.select(FILES.names), []
    hidden = _settle(every, again, [*contents], show)
    notes = [
        f"{name}: {n} of its files are unpacked beside it already; those are read"
        for name, n in zip(contents, hidden, strict=True)
        if n
    ]
    return every.select(FILES.names).filter(pa.array(~again)).combine_chunks(), notes


def _settle(every: pa.Table, again: np.ndarray, names: list[str], show: Callable[[str], str]) -> list[int]:
    """How many entries of each archive stand behind a file that is there; errors for those that clash."""
    origin = every["origin"].to_numpy()
    rows = np.arange(len(every))
    first = np.maximum.accumulate(np.where(again, 0, rows))  # where the run of equal paths begins
    twice = np.flatnonzero(again & (origin == np.roll(origin, 1)))
    if len(twice):
        name = every["path"][int(twice[0])].as_py()
        archive = show(names[origin[twice[0]] - 1])
        raise CorpusError(f"{archive}: it has two entries called {name!r}; extract it and name the folder")
    behind = again & (origin[first] == 0)
    for row in np.flatnonzero(again & ~behind).tolist():
        one, other = _bytes_of(every, int(first[row])), _bytes_of(every, row)
        if one is None or one != other:
            archives = " and ".join(show(names[origin[i] - 1]) for i in (first[row], row))
            raise CorpusError(
                f"{archives} hold different files called {every['path'][row].as_py()!r}; "
                "move one of the archives elsewhere"
            )
    return [int(n) for n in np.bincount(origin[behind], minlength=len(names) + 1)[1:]]


def _bytes_of(every: pa.Table, row: int) -> tuple[int, str] | None:
    """Size and crc32 of a zip's member; None where nothing is known of the bytes."""
    stamp = every["stamp"][row].as_py()
    return (every["size"][row].as_py(), stamp.rsplit(":", 2)[1]) if stamp.startswith("z:") else None


def one_archive(files: pa.Table, name: str, show: Callable[[str], str]) -> Archive:
    """The archive of that name in a listing of what lies beside it, when it is itself corpus.root.

    Raises:
        CorpusError: it is no archive that is read in place; says which are.
    """
    shown = show(name)
    if is_packed_tar(name):
        raise CorpusError(f"corpus.root {shown}: a packed tar is not read in place; unpack it once to a .tar (gunzip)")
    first = re.sub(r"\.(zip)\.[0-9]{3,}$", r".\1.001", name, flags=re.IGNORECASE)
    if first != name:
        raise CorpusError(f"corpus.root {shown}: name the first part, {first}")
    for archive in find_archives(files, show):
        if archive.path == name:
            return archive
    raise CorpusError(
        f"corpus.root {shown}: not a folder, and no archive that is read in place (.zip, .zip.001, .tar); extract it"
    )


class SourceWithArchives(BlockReader):
    """A source whose files may be members of archives."""

    url: str

    @abstractmethod
    def list_files(self) -> Listing:
        """All files and notes; called once."""

    @abstractmethod
    def own_blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        """The bytes of a file that is in no archive."""

    @abstractmethod
    def blob(self, archive: str, version: str = "") -> Blob:
        """An archive, open; `version` is what stamps say of it, "" where it is listed just now."""

    @cached_property
    def _listed(self) -> Listing:
        return self.list_files()

    @property
    def notes(self) -> list[str]:
        return self._listed[1]

    def files(self) -> pa.Table:
        return self._listed[0]

    def blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        kind = stamp[:2]
        if kind == "z:":
            archive, member, etag = parse_zip_stamp(stamp, path)
            yield from zip_blocks(self.blob(archive, etag), member)
        elif kind == "t:":
            archive, entry, version = parse_tar_stamp(stamp, path)
            yield from tar_blocks(self.blob(archive, version), entry, version)
        elif kind == "x:":
            raise unreadable(path, stamp)
        else:
            yield from self.own_blocks(path, stamp)
