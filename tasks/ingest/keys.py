"""Keys: unique, stable, free of dots, plain ASCII; keyed hashes where the corpus is private."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence

from infra.store import MissingObjectError, Store
from tasks.ingest.tarfiles import KEY_LIMIT

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def safe_key(name: str) -> str:
    """The name itself where it is plain, else a readable likeness with eight digits of its sha256."""
    if _SAFE.fullmatch(name) and len(name) <= KEY_LIMIT:
        return name
    return _likeness(name, name, 8)


def _likeness(name: str, whole: str, digits: int) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_") or "image"
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{plain[: KEY_LIMIT - digits - 1]}-{digest[:digits]}"


def assign_keys(images: Sequence[tuple[str, str]], known: Mapping[str, str]) -> list[str]:
    """A key for each (path, name).

    Paths that have a key keep it. A name that several new paths share, or that is taken, is made unique by
    the path's sha256, so that no key depends on the order in which files arrived within one ingest.
    """
    keys = [known.get(path, "") for path, _ in images]
    taken = set(known.values())
    wanted = [key or safe_key(name) for key, (_, name) in zip(keys, images, strict=True)]
    count: dict[str, int] = {}
    for key, want in zip(keys, wanted, strict=True):
        if not key:
            count[want] = count.get(want, 0) + 1
    for i, (path, name) in enumerate(images):
        if keys[i]:
            continue
        if count[wanted[i]] == 1 and wanted[i] not in taken:
            keys[i] = wanted[i]
            continue
        for digits in (8, 16, 64):
            keys[i] = _likeness(name, path, digits)
            if keys[i] not in taken and keys[i] not in count:
                break
        taken.add(keys[i])
    return keys


class Veil:
    """Keyed hashes of a private corpus: 16 hexadecimal digits of HMAC-SHA256."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def hide(self, kind: str, text: str) -> str:
        """The hash of a path, patient or exam; blank stays blank."""
        if not text:
            return ""
        message = f"{kind}:{text}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:16]


def secret_of(store: Store, title: str, *, create: bool = True) -> bytes:
    """The corpus's secret in the store, made on first use.

    Whoever holds it can tell whether a patient is in the store, so only the owner may read the file. With
    `create=False` a secret that is not there yet is drawn and not kept.
    """
    name = f"secrets/{title}.key"
    try:
        return store.get(name)
    except MissingObjectError:
        fresh = secrets.token_bytes(32)
        if not create:
            return fresh
        store.put(name, fresh)
        os.chmod(store.local_path(name), 0o600)
        # Another process may have been faster; what is stored counts.
        return store.get(name)
