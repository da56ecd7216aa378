"""The secret of a private corpus: outside of the store, and always the same one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.errors import CorpusError, UsageError
from infra.settings import reload_settings
from infra.storage.store import LocalStore
from tasks.ingest.secret import digest_of_secret, known_secret, secret_defect, secret_file, secret_of


def test_it_is_drawn_once_for_the_owner_alone_outside_of_the_store(home: Path, store: LocalStore) -> None:
    first = secret_of(store, "mine")
    assert secret_of(store, "mine") == first == secret_file("mine").read_bytes()
    assert len(first) == 32
    assert stat.S_IMODE(secret_file("mine").stat().st_mode) == 0o600
    assert store.sizes("") == {}


def test_a_dry_look_keeps_none(home: Path, store: LocalStore) -> None:
    secret_of(store, "mine", create=False)
    assert known_secret("mine") is None


def test_corpora_have_secrets_of_their_own(home: Path, store: LocalStore) -> None:
    assert secret_of(store, "mine") != secret_of(store, "yours")


def test_a_variable_goes_before_the_file(home: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_SECRET", "0123456789abcdef" * 2)
    reload_settings()
    given = secret_of(store, "mine")
    assert not secret_file("mine").exists()
    assert given == secret_of(store, "mine") != secret_of(store, "yours")


def test_a_short_variable_is_refused_and_not_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_SECRET", "letmein")
    reload_settings()
    with pytest.raises(UsageError, match="has 7 characters, and 32 are needed") as caught:
        known_secret("mine")
    assert "letmein" not in str(caught.value)


def test_a_file_that_was_cut_is_refused(home: Path, store: LocalStore) -> None:
    secret_of(store, "mine")
    secret_file("mine").write_bytes(b"short")
    with pytest.raises(UsageError, match="5 bytes, not 32"):
        secret_of(store, "mine")


def test_one_in_the_store_is_refused_and_the_place_for_it_named(home: Path, store: LocalStore) -> None:
    store.put("secrets/mine.key", b"1" * 32)
    with pytest.raises(CorpusError, match=f"lies in the store itself.*move it to {secret_file('mine')}"):
        secret_of(store, "mine")


def test_a_digest_tells_secrets_apart() -> None:
    assert digest_of_secret(b"1" * 32) != digest_of_secret(b"2" * 32)


def test_a_defect_is_lost_changed_or_none(home: Path, store: LocalStore) -> None:
    digest = digest_of_secret(b"1" * 32)
    assert "is lost" in (secret_defect("mine", digest) or "")
    own = secret_of(store, "mine")
    assert "is not the one" in (secret_defect("mine", digest) or "")
    assert secret_defect("mine", digest_of_secret(own)) is None
