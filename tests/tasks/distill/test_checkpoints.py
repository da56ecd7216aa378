"""Checkpoints in the store: which are kept, which count, when they are due."""

from __future__ import annotations

import logging

import pytest

from infra.storage.store import LocalStore
from tasks.distill.checkpoints import Checkpoints


def three(store: LocalStore) -> Checkpoints:
    """Checkpoints of three steps, whose states are told apart by their bytes."""
    checkpoints = Checkpoints(store, "key")
    for step in (10, 20, 30):
        checkpoints.save(step, b"state %d" % step, [{"step": step}])
    return checkpoints


def test_the_two_newest_are_kept(store: LocalStore) -> None:
    three(store)
    names = [f"checkpoints/key/{step:09d}.{kind}" for step in (20, 30) for kind in ("json", "pt")]
    assert sorted(store.sizes("checkpoints/")) == names


def test_the_newest_comes_back_with_its_history(store: LocalStore) -> None:
    three(store)
    found = Checkpoints(store, "key").load()
    assert found is not None
    assert (found.step, found.state, found.history) == (30, b"state 30", [{"step": 30}])


@pytest.mark.parametrize(("kind", "damage"), [("pt", b"state 3O"), ("json", b"{}"), ("pt", None)])
def test_a_damaged_one_gives_way_to_the_one_before(
    kind: str, damage: bytes | None, store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    three(store)
    name, said = f"checkpoints/key/{30:09d}.{kind}", list[str]()
    store.delete(name) if damage is None else store.put(name, damage)
    with caplog.at_level(logging.WARNING):
        found = Checkpoints(store, "key").load(said.append)
    assert found is not None
    assert (found.step, found.state) == (20, b"state 20")
    assert "step 30 is damaged" in said[0]
    assert "step 30 is damaged" in caplog.text
    assert Checkpoints(store, "key").newest() == 20


def test_a_state_without_its_note_is_no_checkpoint(store: LocalStore) -> None:
    three(store)
    store.put(f"checkpoints/key/{40:09d}.pt", b"cut off")
    assert Checkpoints(store, "key").newest() == 30


def test_nothing_to_go_on_from(store: LocalStore) -> None:
    assert Checkpoints(store, "key").newest() == 0
    assert Checkpoints(store, "key").load() is None


def test_the_end_of_an_epoch_is_due_unless_the_last_one_is_near(store: LocalStore) -> None:
    checkpoints = Checkpoints(store, "key", every=40, epoch=6)
    assert [step for step in range(30) if checkpoints.due(step)] == [12, 18, 24]
    checkpoints.save(12, b"", [])
    assert [step for step in range(12, 40) if checkpoints.due(step)] == [24, 30, 36]


def test_other_ranks_keep_count_and_write_nothing(store: LocalStore) -> None:
    checkpoints = Checkpoints(store, "key", every=40, epoch=6, writes=False)
    checkpoints.save(12, b"", [])
    assert store.sizes("checkpoints/") == {}
    assert [step for step in range(12, 40) if checkpoints.due(step)] == [24, 30, 36]


def test_a_finished_training_leaves_none(store: LocalStore) -> None:
    three(store).clear()
    assert store.sizes("checkpoints/") == {}
