"""Moves of the alias champion that a person decides: promote, rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.errors import UsageError
from infra.servers.tracking import VERSIONS_LOCK, alias_of, connect, versions
from tasks.register.aliases import CHAMPION, PASSED, AliasMove, move_alias, moves, registered_model
from tasks.register.gate_tags import GATE_TAG, WHY_TAG


def promote(name: str, version: str, *, by: str, reason: str) -> AliasMove:
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
        return move_alias(client, name, CHAMPION, held, before, by=by, reason=reason)


def rollback(name: str, *, by: str, reason: str) -> AliasMove:
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
            registered_model(client, name)
            raise UsageError(f"{name} has no champion")
        before = _before(moves(client, name), str(now.version))
        if not before:
            raise UsageError(f"{name} version {now.version} is the first champion: nothing to go back to")
        return move_alias(client, name, CHAMPION, _version(client, name, before), now, by=by, reason=reason)


def _before(told: Sequence[AliasMove], now: str) -> str:
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


def _version(client: Any, name: str, version: str) -> Any:
    registered_model(client, name)
    known = {str(each.version): each for each in versions(client, name)}
    if str(version) not in known:
        raise UsageError(f"{name} has no version {version}; it has {', '.join(known) or 'none'}")
    return known[str(version)]
