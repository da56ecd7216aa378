"""What folders and S3 prefixes share: a listing with the archives' content in it, and reading by stamp."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property

import pyarrow as pa

from tasks.sources.base import Reading, unreadable
from tasks.sources.blob import Blob
from tasks.sources.tars import parse_tar_stamp, tar_blocks
from tasks.sources.zip_read import parse_zip_stamp, zip_blocks

Listed = tuple[pa.Table, list[str]]  # files and notes


class Packed(Reading):
    """A source whose files may be members of archives."""

    url: str

    @abstractmethod
    def look(self) -> Listed:
        """Look at everything once."""

    @abstractmethod
    def own_blocks(self, path: str, stamp: str) -> Iterator[bytes]:
        """The bytes of a file that is in no archive."""

    @abstractmethod
    def blob(self, archive: str, version: str = "") -> Blob:
        """An archive, open; `version` is what stamps say of it, "" where it is listed just now."""

    @cached_property
    def _listed(self) -> Listed:
        return self.look()

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
