"""Finding the file that a table means: by path, by name, with or without its extension, in any case."""

from __future__ import annotations

import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from tasks.sources.tree import IMAGE_SUFFIXES


class Finder:
    """Looks names up among paths.

    A name and a path match when one is the other's ending, folder by folder: `a/1.png` finds `x/a/1.png`
    and a flat `1.png`, never `b/1.png`. An exact match goes before one that ignores case and extension.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = list(paths)
        keys = [_key(path) for path in self._paths]
        # Two flat arrays: a dict of every ending of a million paths would be gigabytes.
        self._order = array("q", sorted(range(len(keys)), key=keys.__getitem__))
        self._keys = [keys[i] for i in self._order]

    def find(self, name: str) -> list[str]:
        """Paths that the name may mean: none, one, or several where it does not say enough."""
        name = name.replace("\\", "/").strip("/").removeprefix("./")
        found = self._match(name, whole=False)
        while not found and "/" in name:
            name = name.partition("/")[2]
            found = self._match(name, whole=True)
        return found

    def _match(self, name: str, whole: bool) -> list[str]:
        """Paths that end with the name, or are it; the exact ones where there are such, else the next best."""
        bare = _bare(name)
        depth = name.count("/") + 1
        # Nearly every name is that of a file as it stands; whatever ends so has the key of the bare name.
        exact = [p for p in self._like(_reversed(_folded(bare)), whole) if _ending(p, depth) == name]
        if exact:
            return sorted(exact)
        keys = {_reversed(_folded(said)) for said in (name, bare, _bare(bare))}
        candidates = {path for key in keys for path in self._like(key, whole)}
        if not candidates:
            return []
        ends = {path: _ending(path, depth) for path in candidates}
        for fits in (
            lambda end: name in (end, _bare(end)),
            lambda end: bare in (end, _bare(end)),
            lambda end: _key(end) == _key(name),
        ):
            found = sorted(path for path, end in ends.items() if fits(end))
            if found:
                return found
        return []

    def _like(self, key: str, whole: bool) -> Iterator[str]:
        """Paths whose key begins with this one, or is it."""
        keys = self._keys
        at = bisect_left(keys, key)
        while at < len(keys) and (keys[at] == key or (not whole and keys[at].startswith(key))):
            yield self._paths[self._order[at]]
            at += 1


def _ending(path: str, depth: int) -> str:
    """The last `depth` parts."""
    if depth == 1:
        return path[path.rfind("/") + 1 :]
    return path if path.count("/") < depth else "/".join(path.rsplit("/", depth)[1:])


def _key(path: str) -> str:
    """Folded, last part first: all paths that end alike stand together."""
    return _reversed(_folded(_bare(path)))


def _reversed(text: str) -> str:
    return "/".join(reversed(text.split("/"))) + "/" if "/" in text else f"{text}/"


def _folded(text: str) -> str:
    # NFC: the same accented name is stored in another form by macOS than most tables have it.
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _bare(name: str) -> str:
    if not name.lower().endswith(IMAGE_SUFFIXES):
        return name
    bare = name[: name.rfind(".")]
    return bare if bare and not bare.endswith("/") else name
