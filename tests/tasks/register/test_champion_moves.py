"""Who becomes champion, who was it before, and what the registry remembers of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TransientError, UsageError
from infra.servers.tracking import VERSIONS_LOCK, alias_of, connect, versions
from tasks.register.aliases import move_alias, moves
from tasks.register.champion import promote, rollback
from tasks.register.offers import refuse, standing
from tests.tasks.machine import own_machine

WHO = {"by": "Dr. Ito", "reason": "better on site B"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A machine with its own MLflow database."""
    with own_machine(tmp_path_factory.mktemp("home")):
        yield connect()


@pytest.fixture
def eyes(client: Any, tmp_path: Path) -> str:
    """A model with five versions; the fourth did not pass the gate, the fifth came before there was one."""
    name = f"eyes-{uuid.uuid4().hex}"
    client.create_registered_model(name)
    for verdict in ("passed", "passed", "passed", "failed", ""):
        tags = {"stillroom.gate": verdict, "stillroom.gate_why": "thumbnails: better by -0.1"} if verdict else {}
        client.create_model_version(name, source=str(tmp_path), tags=tags)
    return name


def champion(client: Any, name: str) -> str:
    held = alias_of(client, name, "champion")
    return "" if held is None else str(held.version)


def test_a_promoted_version_is_champion_and_the_move_is_recorded(client: Any, eyes: str) -> None:
    promote(eyes, "1", **WHO)
    move = promote(eyes, "2", **WHO)
    assert champion(client, eyes) == "2"
    assert moves(client, eyes)[-1] == move
    assert (move.before, move.by, move.reason) == ("1", "Dr. Ito", "better on site B")


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("4", r"version 4 did not pass the gate \(failed: thumbnails: better by -0.1\)"),
        ("5", r"version 5 did not pass the gate \(not judged: it was registered before there was a gate\)"),
        ("6", "has no version 6; it has 1, 2, 3, 4, 5"),
    ],
)
def test_a_version_that_may_not_be_champion_is_refused(client: Any, eyes: str, version: str, text: str) -> None:
    promote(eyes, "1", **WHO)
    with pytest.raises(UsageError, match=text):
        promote(eyes, version, **WHO)
    assert champion(client, eyes) == "1"


def test_the_champion_is_not_promoted_again(eyes: str) -> None:
    promote(eyes, "1", **WHO)
    with pytest.raises(UsageError, match="version 1 is the champion already"):
        promote(eyes, "1", **WHO)


def test_an_unknown_model_is_named_with_those_that_there_are(eyes: str) -> None:
    with pytest.raises(UsageError, match=f"has no model 'ears'; it has .*{eyes}"):
        promote("ears", "1", **WHO)
    with pytest.raises(UsageError, match="has no model 'ears'"):
        rollback("ears", **WHO)


@pytest.mark.parametrize("blank", ["by", "reason"])
def test_nobody_moves_the_champion_without_a_name_and_a_reason(eyes: str, blank: str) -> None:
    with pytest.raises(UsageError, match=f"--{blank} is blank"):
        promote(eyes, "1", **{**WHO, blank: "  "})


def test_a_rollback_restores_the_one_before_and_then_the_one_before_that(client: Any, eyes: str) -> None:
    for version in ("1", "2", "3"):
        promote(eyes, version, **WHO)
    assert rollback(eyes, **WHO).version == "2"
    assert rollback(eyes, **WHO).version == "1"
    with pytest.raises(UsageError, match="version 1 is the first champion: nothing to go back to"):
        rollback(eyes, **WHO)
    assert champion(client, eyes) == "1"


def test_a_promotion_after_a_rollback_goes_back_to_where_it_came_from(client: Any, eyes: str) -> None:
    for version in ("1", "2"):
        promote(eyes, version, **WHO)
    rollback(eyes, **WHO)
    promote(eyes, "3", **WHO)
    assert rollback(eyes, **WHO).version == "1"
    assert [move.version for move in moves(client, eyes)] == ["1", "2", "1", "3", "1"]


def test_without_a_champion_there_is_nothing_to_roll_back(eyes: str) -> None:
    with pytest.raises(UsageError, match="has no champion"):
        rollback(eyes, **WHO)


def test_a_champion_that_somebody_else_moved_meanwhile_is_left(client: Any, eyes: str) -> None:
    promote(eyes, "1", **WHO)
    first, second, third, *_ = versions(client, eyes)
    client.set_registered_model_alias(eyes, "champion", second.version)
    with VERSIONS_LOCK, pytest.raises(TransientError, match="the champion was 1 and is 2 now"):
        move_alias(client, eyes, "champion", third, first, **WHO)
    assert champion(client, eyes) == "2"


def test_only_the_newest_moves_are_kept(client: Any, eyes: str) -> None:
    long = {"by": "Dr. Ito", "reason": "r" * 900}
    promote(eyes, "1", **long)
    for number in range(103):
        promote(eyes, str(2 + number % 2), **long)
    told = moves(client, eyes)
    assert (len(told), told[-1].version, len(told[-1].reason)) == (100, "2", 300)


def test_the_moves_of_the_challenger_are_recorded_apart(client: Any, eyes: str) -> None:
    promote(eyes, "1", **WHO)
    _, second, *_ = versions(client, eyes)
    with VERSIONS_LOCK:
        move = move_alias(client, eyes, "challenger", second, None, **WHO)
    assert moves(client, eyes, "challenger") == [move]
    assert [each.version for each in moves(client, eyes)] == ["1"]
    assert alias_of(client, eyes, "challenger").version == second.version


def test_a_refused_version_is_promoted_only_by_who_overrules(client: Any, eyes: str) -> None:
    promote(eyes, "1", **WHO)
    refuse(eyes, "2", by="Dr. Ono", reason="misses bleedings")
    with pytest.raises(UsageError, match=r"refused on .* by Dr. Ono .*: misses bleedings; --overrule"):
        promote(eyes, "2", **WHO)
    with pytest.raises(UsageError, match="was refused on"):
        refuse(eyes, "2", **WHO)
    assert champion(client, eyes) == "1"
    promote(eyes, "2", overrule=True, **WHO)
    assert champion(client, eyes) == "2"


def test_the_champion_is_not_refused(eyes: str) -> None:
    promote(eyes, "1", **WHO)
    with pytest.raises(UsageError, match="version 1 is the champion; to take it out of service: rollback"):
        refuse(eyes, "1", **WHO)


def test_who_approved_the_champion_is_told_as_typed(eyes: str) -> None:
    promote(eyes, "1", **WHO)
    found = standing(eyes, "2")
    assert found.champion == "1"
    assert found.approved.startswith("Dr. Ito (as typed; nobody checked the name) on ")
    assert found.approved.endswith(": better on site B")
