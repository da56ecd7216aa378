"""The store that a spec's `store:` names: a folder, or a prefix in an S3 bucket."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UsageError
from infra.secrets import has_secret
from infra.storage.local_store import LocalStore
from infra.storage.protocol import TEMPORARY, MissingObjectError, Store

__all__ = ["TEMPORARY", "LocalStore", "MissingObjectError", "Store", "open_store"]


def open_store(url: str | Path) -> Store:
    """Open a store; nothing is read or written yet.

    Args:
        url: a folder, or `s3://bucket/prefix?endpoint=http://host:port&region=...`. Without `endpoint` and
            `region` the AWS_* variables and profiles that boto3 knows count, as they do for credentials.

    Raises:
        UsageError: the text names neither.
    """
    text = str(url)
    if text.startswith("s3://"):
        # boto3 costs a quarter of a second, which a folder should not pay.
        from infra.storage.s3_store import S3Store

        return S3Store(text)
    if has_secret(text):
        raise UsageError("the address of the store holds a user name, password or key; a store is a folder or s3://...")
    if "://" in text:
        raise UsageError(f"store {text!r}: a store is a folder or s3://bucket/prefix")
    return LocalStore(Path(text))
