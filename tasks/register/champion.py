"""Moves of the alias champion: read, checked, set, read again, and recorded in the registry.

The record is a tag of the registered model, so that whoever sees the registry sees who moved what, when and why; the
newest move comes last. The name is what somebody typed: where MLflow knows its users, they are the identity.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import TransientError, UsageError
from infra.servers.tracking import VERSIONS_LOCK, alias_of, connect, quiet, tracking_place, versions

CHAMPION = "champion"
GATE_TAG, WHY_TAG = "stillroom.gate", "stillroom.gate_why"
PASSED = "passed"
"""Verdict of the gate that lets a version become champion."""

MOVES_TAG = "stillroom.champion_moves"
_MOST = 100  # moves that are kept
_LONGEST = 300  # characters of a reason; the tag holds 100 of them


@dataclass(frozen=True)
class ChampionMove:
    """One move of the alias.

    Attributes:
        version: that became champion; "" where nobody is.
        before: that was it until then; "" for none.
        by, reason: as given.
        at: UTC, ISO 8601, seconds.
    """

    version: str
    before: str
    by: str
    reason: str
    at: str

    def to_json(self) -> dict[str, str]:
        """JSON-safe."""
        return asdict(self)


def promote(name: str, version: str, *, by: str, reason: str) -> ChampionMove:
    """Make a version the champion.

    Args:
        by: who decided it.

    Raises:
        UsageError: there is no such model or version, it did not pass the gate, it is the champion already, or `by` or
            `reason` is blank.
        TransientError: somebody else moved the alias meanwhile.
    """
    _check_words(by, reason)
    client = connect()
    with VERSIONS_LOCK:
        held = _version(client, name, version)
        verdict = held.tags.get(GATE_TAG, "not judged")
        if verdict != PASSED:
            why = held.tags.get(WHY_TAG, "it was registered before there was a gate")
            raise UsageError(
                f"{name} version {version} did not pass the gate ({verdict}: {why}); it cannot be champion"
            )
        before = alias_of(client, name, CHAMPION)
        if before is not None and str(before.version) == str(version):
            raise UsageError(f"{name} version {version} is the champion already")
        return move_champion(client, name, held, before, by=by, reason=reason)


def rollback(name: str, *, by: str, reason: str) -> ChampionMove:
    """Give the alias back to the version that had it before the last move; a second rollback goes one move further.

    Raises:
        UsageError: there is no such model, no move to take back, or the version is gone; or as `promote`.
        TransientError: somebody else moved the alias meanwhile.
    """
    _check_words(by, reason)
    client = connect()
    with VERSIONS_LOCK:
        now = alias_of(client, name, CHAMPION)
        if now is None:
            _model(client, name)
            raise UsageError(f"{name} has no champion")
        before = _before(moves(client, name), str(now.version))
        if not before:
            raise UsageError(f"{name} version {now.version} is the first champion: nothing to go back to")
        return move_champion(client, name, _version(client, name, before), now, by=by, reason=reason)


def move_champion(client: Any, name: str, held: Any, before: Any | None, *, by: str, reason: str) -> ChampionMove:
    """Set the alias, see that it is set, and record it; the caller holds VERSIONS_LOCK.

    Args:
        held: the version that gets it.
        before: the version that has it, as it was read when the move was decided; None for none.

    Raises:
        TransientError: somebody else moved the alias meanwhile, before or after.
    """
    found = alias_of(client, name, CHAMPION)
    if _number(found) != _number(before):
        raise TransientError(
            f"{name}: the champion was {_number(before) or 'nobody'} and is {_number(found) or 'nobody'} now"
        )
    move = ChampionMove(
        version=_number(held),
        before=_number(before),
        by=by.strip(),
        reason=reason.strip()[:_LONGEST],
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    told = [*moves(client, name), move][-_MOST:]
    with quiet():
        client.set_registered_model_alias(name, CHAMPION, held.version)
        client.set_registered_model_tag(name, MOVES_TAG, json.dumps([each.to_json() for each in told]))
    after = alias_of(client, name, CHAMPION)
    if _number(after) != move.version:
        raise TransientError(f"{name}: somebody moved the champion to {_number(after) or 'nobody'} at the same time")
    return move


def moves(client: Any, name: str) -> list[ChampionMove]:
    """The recorded moves of a model's champion, oldest first."""
    text = _model(client, name).tags.get(MOVES_TAG)
    return [ChampionMove(**each) for each in json.loads(text)] if text else []


def _before(told: Sequence[ChampionMove], now: str) -> str:
    """Who was champion before the version that is it now: the moves, each rollback undoing the one before it."""
    stack: list[str] = []
    for move in told:
        if len(stack) > 1 and move.version == stack[-2] and move.before == stack[-1]:
            stack.pop()
            continue
        if not stack and move.before:
            stack.append(move.before)
        stack.append(move.version)
    while stack and stack[-1] != now:
        stack.pop()
    return stack[-2] if len(stack) > 1 else ""


def _check_words(by: str, reason: str) -> None:
    for option, text in (("--by", by), ("--reason", reason)):
        if not text.strip():
            raise UsageError(f"{option} is blank: the registry records who moved the champion, and why")


def _model(client: Any, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        with quiet():
            return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        with quiet():
            known = ", ".join(sorted(each.name for each in client.search_registered_models())) or "none"
        raise UsageError(f"MLflow at {tracking_place()} has no model {name!r}; it has {known}") from None


def _version(client: Any, name: str, version: str) -> Any:
    _model(client, name)
    known = {str(each.version): each for each in versions(client, name)}
    if str(version) not in known:
        raise UsageError(f"{name} has no version {version}; it has {', '.join(known) or 'none'}")
    return known[str(version)]


def _number(version: Any | None) -> str:
    return "" if version is None else str(version.version)
