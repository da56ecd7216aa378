"""What a store is: named byte strings that are whole or absent (DESIGN: Store).

Names are POSIX-like relative paths. Data objects carry their sha256 in their name, so two writers of
one name write the same bytes; manifests and heads are whole and last-writer-wins.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

from infra.errors import PermanentError, UsageError

TEMPORARY = ".part-"


class MissingObjectError(PermanentError):
    """No object of that name; the text says which."""


class Store(Protocol):
    """What every backend does; tests/infra/test_store.py is the conformance suite."""

    url: str  # what `infra.storage.store.open_store` opens again, in another process too

    def put(self, name: str, data: bytes) -> None:
        """Write `data` under `name`: afterwards it is whole under that name, or the call raised."""

    def put_file(self, name: str, path: Path) -> None:
        """Like `put`, from a local file that may be larger than memory."""

    def put_new(self, name: str, data: bytes) -> bool:
        """Like `put`, unless the name is taken: then nothing is written and the answer is False.

        A folder decides it atomically, and so does an S3 server that knows `If-None-Match`. For other servers the
        rule is one writer at a time: a second one is noticed and gets a TransientError, and so may the first.
        """

    def get(self, name: str) -> bytes:
        """All bytes; MissingObjectError when there is no such object."""

    def read(self, name: str, offset: int, size: int, *, cached: bool = True) -> bytes:
        """Exactly `size` bytes from `offset`; CorruptError when the object is shorter. `cached` as in `open`.

        What is read uncached is handed over as it is, even where the object is damaged.
        """

    def sizes(self, prefix: str) -> dict[str, int]:
        """Name to size in bytes of every object whose name starts with `prefix`, by one listing."""

    def ages(self, prefix: str) -> dict[str, float]:
        """Name to seconds since it was last written, for every name that starts with `prefix`, by one listing."""

    def age(self, name: str) -> float | None:
        """Seconds since that object was last written; None when it is not there."""

    def stamps(self, prefix: str) -> dict[str, str]:
        """Name to a text that is another one once the object was written again, by one listing."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def delete(self, name: str) -> None:
        """Remove it; nothing happens when it is not there. For repair and gc alone."""

    def private(self, name: str) -> None:
        """Let nobody but the owner read the object; on S3 the bucket's policy decides and nothing happens."""

    def local_path(self, name: str) -> Path:
        """A local file with the object's bytes, to be opened at once and never written to."""

    def open(self, name: str, *, cached: bool = True) -> BinaryIO:
        """A binary stream over the object, seekable.

        Args:
            cached: whether a verified copy on this machine will do; False reads what the store holds now, which
                is what `verify` and `repair` want to know.
        """

    def abandoned(self, older_than: float) -> list[str]:
        """What writers that died left half-written more than `older_than` seconds ago; no object is among it."""

    def sweep(self, older_than: float) -> int:
        """Remove what `abandoned` lists; how many that were."""


def checked_name(name: str) -> list[str]:
    """The parts of a store name.

    Raises:
        UsageError: the name is empty, absolute, climbs, or looks like a temporary file.
    """
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or parts[-1].startswith(TEMPORARY):
        raise UsageError(f"store name {name!r} is not a plain relative path")
    return parts
