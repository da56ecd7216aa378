"""Finding the file that a table means: by path, by name, with or without its extension, in any case."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from tasks.corpora.base import IMAGE_SUFFIXES


class Finder:
    """Looks names up among paths.

    A name and a path match when one is the other's ending, folder by folder: `a/1.png` finds `x/a/1.png`
    and a flat `1.png`, never `b/1.png`. An exact match goes before one that ignores case and extension.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._endings: dict[str, list[str]] = {}
        self._whole: dict[str, list[str]] = {}
        for path in paths:
            parts = path.split("/")
            for start in range(len(parts)):
                ending = "/".join(parts[start:])
                for form in _forms(ending):
                    self._endings.setdefault(form, []).append(path)
                    if start == 0:
                        self._whole.setdefault(form, []).append(path)

    def find(self, name: str) -> list[str]:
        """Paths that the name may mean: none, one, or several where it does not say enough."""
        name = name.replace("\\", "/").strip("/").removeprefix("./")
        parts = name.split("/")
        for form in _forms(name):
            if form in self._endings:
                return sorted(set(self._endings[form]))
        for start in range(1, len(parts)):
            for form in _forms("/".join(parts[start:])):
                if form in self._whole:
                    return sorted(set(self._whole[form]))
        return []


def _forms(name: str) -> list[str]:
    """From exact to loose; the prefixes keep the kinds apart."""
    bare = _bare(name)
    # NFC: the same accented name is stored in another form by macOS than most tables have it.
    folded = unicodedata.normalize("NFC", bare).casefold()
    return list(dict.fromkeys(("=" + name, "-" + name, "-" + bare, "~" + folded)))


def _bare(name: str) -> str:
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
