"""Names of archive entries: those that leave the folder they are unpacked in are refused."""

from __future__ import annotations

import re

from infra.errors import CorpusError


def entry_path(archive: str, name: str) -> str:
    """The entry's path below the archive's folder, without `./` and doubled slashes.

    Raises:
        CorpusError: the name is absolute, has a drive letter, or climbs, whichever slash it climbs with.
    """
    # The plain names, which are nearly all, cost a few searches and no regular expression.
    odd = "\\" in name or "\0" in name or ".." in name or "//" in name or "/./" in name or ":" in name
    if name and not odd and name[0] not in "/.":
        return name
    either = name.replace("\\", "/")
    climbs = ".." in either.split("/")
    if not name or "\0" in name or climbs or either.startswith("/") or re.match("[A-Za-z]:", name):
        why = "climbs out of its folder" if climbs else "is no path below a folder"
        raise CorpusError(
            f"{archive}: the name of its entry {name!r} {why}; such an archive is not to be trusted: "
            "get it from its publisher again, or extract it yourself and name the folder"
        )
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def refuse(archive: str, name: str, why: str) -> CorpusError:
    """The error for an entry that is no plain file."""
    return CorpusError(f"{archive}: its entry {name!r} {why}; extract the archive and name the folder as corpus.root")
