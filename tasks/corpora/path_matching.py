"""Finding the files that a table means: by path, by name, with or without its extension, in any case."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.corpora.csv_table import coded
from tasks.corpora.scan import BATCH
from tasks.sources.passed_over import IMAGE_SUFFIXES

_SUFFIX = rf"(?is)([^/])\.(?:{'|'.join(s[1:] for s in IMAGE_SUFFIXES)})$"
_MOST_COUNTED = 999  # repetitions that RE2 accepts in a pattern
_NOWHERE = -1  # count of a name that was asked for in every way


@dataclass(frozen=True)
class PathMatches:
    """What each of many names means: a run of `files`, shared by names that mean the same.

    Args:
        start, count: int32, for each name the first of its run and how many paths it has.
        files: int32, positions of paths.
    """

    start: np.ndarray
    count: np.ndarray
    files: np.ndarray

    def single(self) -> np.ndarray:
        """int32, for each name the position of its only path; -1 where it means none or several."""
        found = np.full(len(self.count), -1, np.int32)
        one = self.count == 1
        found[one] = self.files[self.start[one]]
        return found

    def pairs(self, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(name, position of a path that it means) for these names, by name; of names that mean the same the last.

        Args:
            names: ascending numbers of names.
        """
        start, back = np.unique(self.start[names[::-1]], return_index=True)
        last = names[::-1][back]
        order = np.argsort(last)
        last, start = last[order], start[order]
        count = self.count[last]
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(last, count), self.files[np.repeat(start, count) + inside]


class PathMatcher:
    """Looks names up among paths.

    A name and a path match when one is the other's ending, folder by folder: `a/1.png` finds `x/a/1.png`
    and a flat `1.png`, never `b/1.png`. A whole path goes before an ending, and an exact match before one that ignores
    case and extension.

    Args:
        paths: each once.
    """

    def __init__(self, paths: pa.StringArray | Iterable[str]) -> None:
        self.paths = paths if isinstance(paths, pa.Array) else pa.array(paths, pa.string())
        self._deepest = pc.max(pc.count_substring(self.paths, "/")).as_py() or 0

    def find(self, names: pa.StringArray | Iterable[str]) -> PathMatches:
        """Paths that each name may mean: none, one, or several where it does not say enough.

        Names are looked up together, in rounds of one join each: a later round asks only for what none before it found.
        """
        search = _Search(_plain(names if isinstance(names, pa.Array) else pa.array(names, pa.string())))
        # A name that is the whole of a path means that file, even where other paths end alike.
        search.whole(self.paths)
        folders = search.folders()
        for depth in np.unique(folders[folders <= self._deepest]).tolist():
            search.rounds(self._endings(depth), folders == depth)
        # A name may begin above the listed folder: without its first folders it is a whole path.
        while search.shorten():
            search.rounds(self.paths, search.folders() <= self._deepest)
        return search.found()

    def single(self, names: pa.StringArray) -> list[str]:
        """The only path that each name may mean; "" where there is none, or more than one."""
        found = self.find(names).single()
        return list(self.paths.take(pa.array(found, mask=found < 0)).fill_null("").to_pylist())

    def meant(self, names: Iterable[str]) -> list[str]:
        """Every path that one of the names may mean."""
        found = self.find(names)
        _, files = found.pairs(np.flatnonzero(found.count))
        return list(self.paths.take(pa.array(files)).to_pylist())

    def _endings(self, folders: int) -> pa.StringArray:
        """Each path's last part with so many folders before it; the path where it has fewer."""
        if folders == 0:
            return pc.replace_substring_regex(self.paths, r"(?s)^.*/", "")
        if folders > _MOST_COUNTED:
            return self.paths
        return pc.replace_substring_regex(self.paths, rf"(?s)^.*/((?:[^/]*/){{{folders}}}[^/]*)$", r"\1")


class _Search:
    """Names on their way to be found."""

    def __init__(self, asked: pa.StringArray) -> None:
        self._asked = asked
        self._start, self._count = np.zeros(len(asked), np.int32), np.zeros(len(asked), np.int32)
        self._files: list[np.ndarray] = []
        self._held = 0

    def folders(self) -> np.ndarray:
        """How many folders each name says."""
        return pc.count_substring(self._asked, "/").to_numpy()

    def shorten(self) -> bool:
        """Drop the first folder of what is not found yet; whether there was one to drop."""
        self._count[(self._count == 0) & (self.folders() == 0)] = _NOWHERE
        if (self._count != 0).all():
            return False
        self._asked = pc.replace_substring_regex(self._asked, r"(?s)^[^/]*/", "", max_replacements=1)
        return True

    def whole(self, paths: pa.StringArray) -> None:
        """Look all names up among whole paths, as written."""
        self._join(np.ones(len(self._asked), bool), _same, paths)

    def rounds(self, ends: pa.StringArray, among: np.ndarray) -> None:
        """Look some of the names up among endings of paths: as written, then by what stands before the suffix."""
        if self._join(among, _same, ends):
            return
        bare = _bare(ends)
        if self._join(among, _same, bare) or self._join(among, _bare, ends, bare):
            return
        self._join(among, lambda asked: _folded(_bare(asked)), _folded(bare))

    def _join(self, among: np.ndarray, form: Callable[[pa.StringArray], pa.StringArray], *ends: pa.StringArray) -> bool:
        """Whether no name is left to ask for."""
        rows = np.flatnonzero(among & (self._count == 0))
        if not len(rows):
            return True
        asked = coded(form(self._asked.take(pa.array(rows))))
        meant, files, before = [], [], np.array(-1)
        for own in ends:
            hit = pc.index_in(own, value_set=asked.texts).fill_null(-1).to_numpy()
            new = (hit >= 0) & (hit != before)  # a path without a suffix ends alike with and without it
            files.append(np.flatnonzero(new).astype(np.int32))
            meant.append(hit[new])
            before = hit
        order = np.argsort(np.concatenate(meant), kind="stable")
        count = np.bincount(np.concatenate(meant), minlength=len(asked.texts)).astype(np.int32)
        start = np.cumsum(count) - count + self._held
        self._start[rows], self._count[rows] = start[asked.codes], count[asked.codes]
        self._files.append(np.concatenate(files)[order])
        self._held += len(order)
        return bool(self._count[rows].all())

    def found(self) -> PathMatches:
        """Where every name was found."""
        files = np.concatenate([np.array([], np.int32), *self._files])
        return PathMatches(self._start, np.maximum(self._count, 0), files)


def _plain(names: pa.StringArray) -> pa.StringArray:
    """As paths are listed: with slashes, relative to a folder."""
    relative = pc.utf8_trim(pc.replace_substring(names, "\\", "/"), "/")
    return pc.replace_substring_regex(relative, r"^\./", "", max_replacements=1)


def _same(names: pa.StringArray) -> pa.StringArray:
    return names


def _bare(names: pa.StringArray) -> pa.StringArray:
    """Without an image's suffix; a name that is nothing but a suffix stays."""
    return pc.replace_substring_regex(names, _SUFFIX, r"\1")


def _folded(names: pa.StringArray) -> pa.StringArray:
    """For comparing in any case."""
    plain = pc.string_is_ascii(names)
    if pc.all(plain, min_count=0).as_py():
        return pc.ascii_lower(names)
    # NFC: the same accented name is stored in another form by macOS than most tables have it.
    parts = (names.slice(at, BATCH).to_pylist() for at in range(0, len(names), BATCH))
    folded = (pa.array([unicodedata.normalize("NFC", name).casefold() for name in part]) for part in parts)
    return pa.concat_arrays(list(folded))
