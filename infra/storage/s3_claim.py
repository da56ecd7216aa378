"""One writer at a time for a new key of a bucket: by the server's help, or noticed without it.

Some servers pass over `If-None-Match` or refuse it, so that two writers that create one object at once would both
believe theirs stays. There each first leaves a claim beside the key and then looks for others': whichever looks
second sees both.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import TransientError
from infra.storage import s3_upload
from infra.storage.s3_client import Bucket
from infra.storage.s3_retry import NoConditionError

CLAIM = ".claim-"
DEAD_SECONDS = 900.0
"""A claim as old as that, compared with ours by the server's clock, is of a writer that died."""


_KNOWN: dict[tuple[str | None, str], bool] = {}


def knows_condition(bucket: Bucket, key: str) -> bool:
    """Whether the server keeps `If-None-Match: *`: asked once a process, by creating an object beside `key` twice."""
    server = bucket.address.endpoint, bucket.name
    if server not in _KNOWN:
        probe = f"{key}{CLAIM}{uuid.uuid4().hex}"
        s3_upload.put(bucket, probe, b"")
        try:
            _KNOWN[server] = not s3_upload.put_if_absent(bucket, probe, b"again")
        except NoConditionError:
            _KNOWN[server] = False
        finally:
            _delete(bucket, probe)
    return _KNOWN[server]


@contextmanager
def claimed(bucket: Bucket, key: str) -> Iterator[None]:
    """Hold the only claim on `key` inside.

    Raises:
        TransientError: another writer has one too.
    """
    own = f"{key}{CLAIM}{uuid.uuid4().hex}"
    s3_upload.put(bucket, own, b"")
    try:
        written = {entry.key: entry.modified for entry in bucket.list(f"{key}{CLAIM}")}
        ours = written.get(own)
        if ours is None or any(at > ours - DEAD_SECONDS for other, at in written.items() if other != own):
            raise TransientError(
                f"{bucket.where(key)}: two runs create it at the same time, and only one may; start one run on a new "
                "store alone, and others once it has begun to write"
            )
        yield
    finally:
        _delete(bucket, own)


def _delete(bucket: Bucket, key: str) -> None:
    bucket.with_retries(key, lambda: bucket.client.delete_object(Bucket=bucket.name, Key=key))
