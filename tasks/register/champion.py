"""Moves of the alias champion that a person decides: promote, rollback."""

from __future__ import annotations

from collections.abc import Sequence

from infra.errors import UsageError
from infra.servers.mlflow_errors import mlflow_errors
from infra.servers.tracking import VERSIONS_LOCK, alias_of, connect
from infra.servers.tracking_user import tracking_user
from tasks.register.aliases import CHAMPION, AliasMove, move_alias, moves, registered_model
from tasks.register.offers import check_not_refused, check_offer, check_passed, check_words, version_named


def promote(
    name: str, version: str, *, by: str, reason: str, offered: bool = False, overrule: bool = False
) -> AliasMove:
    """Make a version the champion.

    Args:
        by: who decided it, as typed.
        offered: somebody was asked about it earlier; what they were told must still hold (`check_offer`).
        overrule: promote it although somebody refused it.

    Raises:
        UsageError: there is no such model or version, it did not pass the gate, was refused, is the champion already,
            the offer does not hold any more, or `by` or `reason` is blank.
        TransientError: somebody else moved the alias meanwhile, or MLflow cannot be reached or fails.
    """
    check_words(by, reason)
    with mlflow_errors():
        client, user = connect(), tracking_user()
        with VERSIONS_LOCK:
            held = version_named(client, name, version)
            before = alias_of(client, name, CHAMPION)
            if offered:
                check_offer(client, name, held, before)
            check_passed(name, held)
            if not overrule:
                check_not_refused(name, held, "; --overrule promotes it nevertheless")
            if before is not None and str(before.version) == str(version):
                raise UsageError(f"{name} version {version} is the champion already")
            return move_alias(client, name, CHAMPION, held, before, by=by, reason=reason, user=user)


def rollback(name: str, *, by: str, reason: str) -> AliasMove:
    """Give the alias back to the version that had it before the last move; a second rollback goes one move further.

    Raises:
        UsageError: there is no such model, no move to take back, or the version is gone; or as `promote`.
        TransientError: somebody else moved the alias meanwhile, or MLflow cannot be reached or fails.
    """
    check_words(by, reason)
    with mlflow_errors():
        client, user = connect(), tracking_user()
        with VERSIONS_LOCK:
            now = alias_of(client, name, CHAMPION)
            if now is None:
                registered_model(client, name)
                raise UsageError(f"{name} has no champion")
            before = _before(moves(client, name), str(now.version))
            if not before:
                raise UsageError(f"{name} version {now.version} is the first champion: nothing to go back to")
            held = version_named(client, name, before)
            return move_alias(client, name, CHAMPION, held, now, by=by, reason=reason, user=user)


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
