"""New objects on S3: one writer makes them, whether or not the server knows `If-None-Match`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import TransientError
from infra.storage.s3_claim import CLAIM, claimed, knows_condition
from infra.storage.s3_store import S3Store
from infra.storage.store import Store
from tests.s3server import FaultProxy

KEY = "p/secrets/a.key"


def outcome(store: Store, name: str, data: bytes) -> bool | None:
    """What `put_new` returns; None where it noticed another writer."""
    try:
        return store.put_new(name, data)
    except TransientError:
        return None


def race(store: Store, turn: int) -> list[bool | None]:
    tokens = [f"{turn}-{number}".encode() for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda token: outcome(store, f"k{turn}", token), tokens))
    if True in found:
        assert store.get(f"k{turn}") == tokens[found.index(True)]
    return found


def test_a_server_that_knows_the_condition_lets_one_writer_win(shaky: S3Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.conditional = True
    assert knows_condition(shaky.bucket, KEY)
    for turn in range(3):
        found = race(shaky, turn)
        assert (found.count(True), found.count(False)) == (1, 3)


def test_where_the_server_passes_over_it_a_second_writer_is_noticed(shaky: S3Store) -> None:
    assert not knows_condition(shaky.bucket, KEY)
    for turn in range(3):
        assert race(shaky, turn).count(True) <= 1
    assert not [name for name in shaky.sizes("") if CLAIM in name]


def test_a_server_that_refuses_the_condition_is_written_to_without_it(shaky: S3Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.fail("501", "PUT", f"{KEY}*", skip=1)
    assert shaky.put_new("secrets/a.key", b"first")
    assert not shaky.put_new("secrets/a.key", b"second")
    assert shaky.get("secrets/a.key") == b"first"


def test_two_claims_at_once_are_an_error_that_says_what_to_do(shaky: S3Store) -> None:
    with (
        claimed(shaky.bucket, KEY),
        pytest.raises(TransientError, match="two runs create it at the same time"),
        claimed(shaky.bucket, KEY),
    ):
        pass


def test_ours_stays_ours_where_the_first_answer_was_lost(shaky: S3Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.conditional = True
    assert knows_condition(shaky.bucket, KEY)
    fault_proxy.fail("lost", "PUT", KEY)
    assert shaky.put_new("secrets/a.key", b"first")
