"""The secret of a private corpus's keyed hashes: never in the store, so that who copies the store cannot name anybody.

It comes from `STILLROOM_SECRET`, else from a file of the owner's outside of the store, which the first ingest makes.
Manifests hold its digest: with another secret every image and patient would be another one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from infra.errors import CorpusError, UsageError
from infra.owner_files import owner_folder, read_owner_file, write_new_owner_file
from infra.settings import settings
from infra.storage.store import Store
from tasks.ingest.parent import read_head

FACT = "secret"
"""Fact of an ingest manifest: digest of the secret."""

SECRETS = "secrets/"
"""Folder of the store in which releases before this one kept secrets."""

VARIABLE = "STILLROOM_SECRET"
_BYTES = 32
_SHORTEST = 32  # characters of the variable: a digest of fewer could be guessed


def secret_of(store: Store, title: str, *, create: bool = True) -> bytes:
    """The corpus's secret, made on first use; compared with the digest in the head's manifest.

    Args:
        create: False draws one that is not there yet and does not keep it.

    Raises:
        CorpusError: what is in the store was made with a secret that is lost, or with another one.
        UsageError: the variable is too short, or others may read the file.
    """
    expected = expected_digest(store, title)
    found = known_secret(title)
    if found is None:
        if expected:
            raise CorpusError(_lost(title))
        if store.exists(f"{SECRETS}{title}.key"):
            raise CorpusError(
                f"{store.url}/{SECRETS}{title}.key: the secret of a private corpus lies in the store itself, as "
                f"earlier releases kept it; move it to {secret_file(title)} and chmod 600 it, or remove it and a new "
                "one is drawn"
            )
        fresh = secrets.token_bytes(_BYTES)
        if not create or write_new_owner_file(secret_file(title), fresh):
            return fresh
        # Another process was faster.
        found = known_secret(title)
        assert found is not None
    if expected and digest_of_secret(found) != expected:
        raise CorpusError(_changed(title))
    return found


def expected_digest(store: Store, title: str) -> str:
    """Digest of the secret that the corpus in the store was made with; "" when there is none, or it is not private."""
    head = read_head(store, title)
    return str(head.facts.get(FACT, "")) if head is not None else ""


def secret_defect(title: str, expected: str) -> str | None:
    """What is wrong with the secret of a corpus whose manifest holds `expected`; None when nothing is."""
    try:
        found = known_secret(title)
    except UsageError as error:
        return str(error)
    if found is None:
        return _lost(title)
    return _changed(title) if digest_of_secret(found) != expected else None


def known_secret(title: str) -> bytes | None:
    """The secret from variable or file; None when there is none. UsageError as `secret_of`."""
    given = settings().secret
    if given is not None:
        text = given.get_secret_value()
        if len(text) < _SHORTEST:
            raise UsageError(
                f"{VARIABLE} has {len(text)} characters, and {_SHORTEST} are needed; draw one with "
                "`openssl rand -hex 32`"
            )
        # Corpora that share the variable share no hashes.
        return hmac.new(text.encode(), f"corpus:{title}".encode(), hashlib.sha256).digest()
    found = read_owner_file(secret_file(title))
    if found is not None and len(found) != _BYTES:
        raise UsageError(f"{secret_file(title)}: {len(found)} bytes, not {_BYTES}; restore it from a backup")
    return found


def secret_file(title: str) -> Path:
    """Where the secret of a corpus lies on this machine."""
    return owner_folder() / f"{title}.key"


def digest_of_secret(secret: bytes) -> str:
    """Hex sha256 that tells secrets apart and does not reveal them."""
    return hashlib.sha256(b"stillroom secret:" + secret).hexdigest()


def _lost(title: str) -> str:
    return (
        f"the secret of private corpus {title} is lost: neither {VARIABLE} nor {secret_file(title)} is there. Restore "
        "it from a backup or copy it from the machine that ingested; without it use another corpus.name"
    )


def _changed(title: str) -> str:
    return (
        f"the secret of private corpus {title} is not the one that its store was made with ({VARIABLE} or "
        f"{secret_file(title)}); give the old one back, or use another corpus.name"
    )
