"""Entries of a zip that no packer writes: those that share bytes with others, and those that promise too much.

A small archive whose entries overlap unpacks to petabytes (D. Fifield, A better zip bomb, WOOT 2019). Such entries
are listed as files that cannot be read, so that each is quarantined by its name and the others are used.
"""

from __future__ import annotations

from array import array

import numpy as np

from tasks.sources.zips import DEFLATED, ZipMember

OVERLAP = "its bytes in the archive are those of another entry too, as in a zip bomb"
ABSURD = "its archive promises more bytes than its packed ones can hold or any photograph needs, as a zip bomb does"

DEFLATE_RATIO = 1040  # deflate makes at most 258 bytes of 2 bits (RFC 1951)
LARGE = 64 << 20  # bytes; a larger entry that packs as well as LARGE_RATIO is blank
LARGE_RATIO = 100
_LOCAL_HEADER = 30  # bytes before name, extra field and data


def is_absurd(member: ZipMember) -> bool:
    """Whether an entry would unpack to more than it can hold, or to a huge file of next to nothing."""
    if member.method != DEFLATED:
        return False
    most = DEFLATE_RATIO if member.size <= LARGE else LARGE_RATIO
    return member.size > most * max(1, member.packed)


class Extents:
    """Where the entries of one archive lie in it: 16 bytes an entry."""

    def __init__(self) -> None:
        self._starts, self._ends = array("q"), array("q")

    def add(self, member: ZipMember) -> None:
        """Note the next entry; what is known of its end without reading it is a little too small."""
        self._starts.append(member.offset)
        self._ends.append(member.offset + _LOCAL_HEADER + member.packed)

    def overlapping(self) -> np.ndarray:
        """[entries] bool, in the order of adding: some of its bytes are another entry's too."""
        starts, ends = np.array(self._starts, np.int64), np.array(self._ends, np.int64)
        found = np.zeros(len(starts), bool)
        if len(starts) < 2:
            return found
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
        reach = np.maximum.accumulate(ends)
        hit = np.flatnonzero(starts[1:] < reach[:-1]) + 1
        # The entry that reaches furthest among those before: the first whose end is that reach.
        owner = np.searchsorted(reach, reach[hit - 1], side="left")
        found[order[hit]] = True
        found[order[owner]] = True
        return found
