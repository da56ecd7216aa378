"""A local folder, with the archives in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from infra.errors import CorpusError
from tasks.sources.archive_file import OPEN_ARCHIVES, Blob, beside
from tasks.sources.archives import Listing, SourceWithArchives, content, find_archives, merged, one_archive
from tasks.sources.base import BLOCK, FILES, LARGEST, Lister, SourceFileChangedError, too_large, unreadable


class FolderSource(SourceWithArchives):
    """A local folder, and the archives in it.

    Args:
        url: its path; made absolute.
    """

    def __init__(self, url: str) -> None:
        self.url = os.path.abspath(url)

    def list_files(self) -> Listing:
        own, notes = _walk(self.url)
        contents = {a.path: content(a, self.blob(a.path)) for a in find_archives(own, self._show)}
        files, more = merged(own, contents, self._show)
        return files, [*notes, *more]

    def _show(self, path: str) -> str:
        return f"{self.url}/{path}"

    def own_blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        return _file_blocks(f"{self.url}/{path}", stamp)

    def blob(self, archive: str, version: str = "") -> Blob:
        return OPEN_ARCHIVES.get(f"{self.url}/{archive}")


class ArchiveSource(SourceWithArchives):
    """A local zip, zip in parts (given by its first part) or tar, as if extracted into a folder of its own.

    Args:
        url: its path; made absolute.
    """

    def __init__(self, url: str) -> None:
        self.url = os.path.abspath(url)
        self._folder, self._name = os.path.split(self.url)

    def list_files(self) -> Listing:
        lister = Lister()
        for name in beside(self.url):
            lister.add(name, os.stat(f"{self._folder}/{name}").st_size, "")
        archive = one_archive(lister.finish(), self._name, self._show)
        return merged(FILES.empty_table(), {self._name: content(archive, self.blob(self._name))}, self._show)

    def _show(self, path: str) -> str:
        return f"{self._folder}/{path}"

    def own_blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        raise unreadable(path, f"x:its stamp {stamp!r} is of another source")

    def blob(self, archive: str, version: str = "") -> Blob:
        return OPEN_ARCHIVES.get(f"{self._folder}/{archive}")


def _walk(root: str) -> Listing:
    """Every file below the root. Links to files count as files, links to folders as folders.

    A link to a folder that is listed anyway, or that holds the root, is not followed, so that nothing is listed twice
    or without end; a note counts these.
    """
    files = Lister()
    folders = [""]
    followed = [os.path.realpath(root)]
    again = 0
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as entries:
                # Links last and by name: which of two links to one folder is followed must not depend on the disk.
                for entry in sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name)):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{prefix}{entry.name}/")
                    elif entry.is_symlink() and entry.is_dir():
                        target = os.path.realpath(entry.path)
                        if any(_within(target, known) or _within(known, target) for known in followed):
                            again += 1
                        else:
                            followed.append(target)
                            folders.append(f"{prefix}{entry.name}/")
                    else:
                        _add(files, prefix + entry.name, entry)
        except OSError as error:
            raise CorpusError(f"{root}/{prefix}: cannot be listed ({error.strerror}); nothing is ingested") from None
    notes = [f"{again} links to folders that are listed already, or that hold them, are not followed"] if again else []
    return files.finish(), notes


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _add(files: Lister, path: str, entry: os.DirEntry[str]) -> None:
    try:
        found = entry.stat()
    except OSError as error:
        if entry.is_symlink():
            files.add(path, 0, f"x:a link that leads nowhere ({error.strerror})")
        elif error.errno != errno.ENOENT:  # else somebody deleted it meanwhile
            raise
        return
    if stat.S_ISREG(found.st_mode):
        files.add(path, found.st_size, f"f:{found.st_mtime_ns}")


def _file_blocks(path: str, stamp: str) -> Iterator[bytes]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(file)
        _same(path, stamp, before)
        if before.st_size > LARGEST:
            raise too_large(path)
        left = before.st_size
        while left and (block := os.read(file, min(left, BLOCK))):
            left -= len(block)
            yield block
        after = os.fstat(file)
        _same(path, stamp, after)
        if left or after.st_size != before.st_size:
            raise SourceFileChangedError(f"{path}: its length changed while it was read; let the copying end first")
    finally:
        os.close(file)


def _same(path: str, stamp: str, found: os.stat_result) -> None:
    if stamp != f"f:{found.st_mtime_ns}":
        raise SourceFileChangedError(f"{path}: it changed after the corpus was listed; run again to list it anew")
