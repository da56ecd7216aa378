"""Keys: unique, stable, free of dots, plain ASCII; keyed hashes where the corpus is private."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.ingest.image_table import mask, place_in

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
KEY_LIMIT = 90  # USTAR holds names of 100 characters; the key carries an extension


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


def assign_keys(paths: pa.Array, names: pa.Array, known_paths: pa.Array, known_keys: pa.Array) -> pa.Array:
    """A key for each image.

    Paths that have a key keep it. A name that several new paths share, or that is taken, is made unique by
    the path's sha256, so that no key depends on the order in which files arrived within one ingest.

    Args:
        paths, names: of every image, text.
        known_paths, known_keys: of an earlier ingest.
    """
    place = place_in(paths, known_paths)
    fresh = np.flatnonzero(place < 0)
    if not len(fresh):
        return known_keys.take(pa.array(place))
    at = pa.array(fresh)
    keys = _settled(_wanted(names.take(at)), names.take(at), paths.take(at), known_keys)
    if len(known_keys) == 0:
        return keys
    old = known_keys.take(pa.array(np.maximum(place, 0)))
    return pc.replace_with_mask(old, pa.array(place < 0), keys)


def _wanted(names: pa.Array) -> pa.Array:
    """`safe_key` of every name; only names that are not plain become Python text."""
    odd = ~mask(pc.match_substring_regex(names, rf"\A{_SAFE.pattern}\z"))
    odd |= pc.binary_length(names).to_numpy() > KEY_LIMIT
    if not odd.any():
        return names
    likenesses = [_likeness(name, name, 8) for name in names.filter(pa.array(odd)).to_pylist()]
    return pc.replace_with_mask(names, pa.array(odd), pa.array(likenesses))


def _settled(wanted: pa.Array, names: pa.Array, paths: pa.Array, known: pa.Array) -> pa.Array:
    """Wanted keys, those made unique that several images want or that an earlier ingest gave."""
    encoded = wanted.dictionary_encode()
    codes = encoded.indices.to_numpy()
    again = (np.bincount(codes) > 1)[codes] | mask(pc.is_in(wanted, value_set=known))
    if not again.any():
        return wanted
    taken = set(known.to_pylist()) | set(encoded.dictionary.to_pylist())
    rows = pa.array(again)
    unique = []
    for name, path in zip(names.filter(rows).to_pylist(), paths.filter(rows).to_pylist(), strict=True):
        key = next(key for digits in (8, 16, 64) if (key := _likeness(name, path, digits)) not in taken or digits == 64)
        taken.add(key)
        unique.append(key)
    return pc.replace_with_mask(wanted, rows, pa.array(unique))


class KeyedHasher:
    """Keyed hashes of a private corpus: the first hexadecimal digits of HMAC-SHA256."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def hash(self, kind: str, text: str) -> str:
        """The hash of a path, patient or exam, 16 digits; blank stays blank."""
        return self._digits(kind, text)[:16]

    def digest(self, text: str) -> str:
        """The hash of a digest, 64 digits: one that is not keyed shows whoever has a file whether it is here."""
        return self._digits("digest", text)

    def _digits(self, kind: str, text: str) -> str:
        if not text:
            return ""
        message = f"{kind}:{text}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
