"""What adapters see of a source: folders, files and images by path."""

from __future__ import annotations

import errno
import posixpath
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from tasks.sources.base import Source
from tasks.sources.masks import masks_among
from tasks.sources.passed_over import HIDDEN, IMAGE_SUFFIXES, is_visible

_AFTER_SLASH = chr(ord("/") + 1)


class Tree:
    """A folder of a source. Paths are POSIX, relative to it; "" and "." are the folder itself.

    Args:
        source: its listing is read when first needed.
        below: the folder within the source.
    """

    def __init__(self, source: Source, below: str = "") -> None:
        self.source, self.below = source, _plain(below)

    def is_file(self, path: str) -> bool:
        """Whether there is a file of that path."""
        return self._find(path) is not None

    def is_dir(self, path: str) -> bool:
        """Whether there is a file below that path; a folder without files is none."""
        start, stop = self._span(path)
        return start < stop

    def exists(self, path: str) -> bool:
        """Whether it is a file or a folder."""
        return self.is_file(path) or self.is_dir(path)

    def names(self, folder: str = "", most: int | None = None) -> list[str]:
        """Names of what lies directly in a folder, by path; at most so many.

        A name that is a file and a folder, as S3 allows, stands twice.
        """
        return list(islice(self._children(folder), most))

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, without hidden ones and those of systems, such as __MACOSX."""
        own = _joined(self._full(folder))
        start, stop = self._span(folder)
        paths = self._paths[start:stop]
        # Only what lies deeper: a folder of a million files is not walked for the folders among them.
        deeper = paths.filter(pc.match_substring(pc.utf8_slice_codeunits(paths, len(own)), "/"))
        found, row = [], 0
        while row < len(deeper):
            name = deeper[row].as_py()[len(own) :].partition("/")[0]
            found.append(name)
            row = _at(deeper, own + name + _AFTER_SLASH)
        return [name for name in found if is_visible(name)]

    def read(self, path: str) -> bytes:
        """All bytes of a file; OSError when there is none, else as Source.read."""
        row = self._find(path)
        if row is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", self.show(path))
        return self.source.read(self._paths[row].as_py(), self.source.files()["stamp"][row].as_py())

    def images(self, folder: str = "") -> list[str]:
        """Paths of all files with an image's suffix at any depth of a folder, sorted; as `with_suffix`, without masks
        beside images (`tasks.sources.masks`)."""
        found = self.with_suffix(*IMAGE_SUFFIXES, folder=folder)
        masks = masks_among(found)
        return [path for path in found if path not in masks] if masks else found

    def with_suffix(self, *suffixes: str, folder: str = "") -> list[str]:
        """Paths of all files with one of the suffixes (in any case) at any depth of a folder, sorted.

        Hidden files and those of systems are skipped: archives made on a Mac carry a `._name.jpg` beside every image.
        """
        start, stop = self._span(folder)
        paths = self._paths[start:stop]
        shown = pc.utf8_slice_codeunits(paths, len(_joined(self._full(folder))))
        hidden = pc.match_substring_regex(shown, HIDDEN)
        ending = "|".join(s.replace(".", r"\.") for s in suffixes)
        wanted = pc.match_substring_regex(shown, f"({ending})$", ignore_case=True)
        kept = paths.filter(pc.and_not(wanted, hidden))
        return list(pc.utf8_slice_codeunits(kept, len(_joined(self.below))).to_pylist())

    def members(self, archive: str) -> list[str]:
        """Paths of the files that are read out of an archive of this tree."""
        start, stop = self._span("")
        stamps = self.source.files()["stamp"].slice(start, stop - start)
        mine = pc.or_(*(pc.starts_with(stamps, f"{kind}:{self._full(archive)}:") for kind in "zt"))
        kept = self._paths[start:stop].filter(mine.combine_chunks())
        return list(pc.utf8_slice_codeunits(kept, len(_joined(self.below))).to_pylist())

    def show(self, path: str = "") -> str:
        """What messages call a path."""
        return "/".join(part for part in (self.source.url.partition("?")[0].rstrip("/"), self._full(path)) if part)

    def sub(self, folder: str) -> Tree:
        """The tree of a folder in it."""
        return Tree(self.source, self._full(folder))

    @cached_property
    def _paths(self) -> pa.StringArray:
        return self.source.files()["path"].combine_chunks()

    def _full(self, path: str) -> str:
        plain = _plain(path)
        climbs = plain == ".." or plain.startswith("../")  # no listed path does: nothing is found there
        return plain if climbs else "/".join(part for part in (self.below, plain) if part)

    def _at(self, text: str) -> int:
        """Position of the first path that is not before the text."""
        return _at(self._paths, text)

    def _find(self, path: str) -> int | None:
        full = self._full(path)
        row = self._at(full)
        return row if row < len(self._paths) and self._paths[row].as_py() == full else None

    def _span(self, folder: str) -> tuple[int, int]:
        full = self._full(folder)
        if not full:
            return 0, len(self._paths)
        return self._at(f"{full}/"), self._at(full + _AFTER_SLASH)

    def _children(self, folder: str) -> Iterator[str]:
        own = _joined(self._full(folder))
        row, stop = self._span(folder)
        while row < stop:
            name, slash, _ = self._paths[row].as_py()[len(own) :].partition("/")
            yield name
            row = self._at(own + name + _AFTER_SLASH) if slash else row + 1


def _at(paths: pa.StringArray, text: str) -> int:
    # Python orders text by code point, which is the order of its UTF-8 bytes.
    return bisect_left(paths, text, key=lambda path: path.as_py())


def _plain(path: str) -> str:
    plain = posixpath.normpath(path.strip("/"))
    return "" if plain == "." else plain


def _joined(folder: str) -> str:
    return f"{folder}/" if _plain(folder) else ""
