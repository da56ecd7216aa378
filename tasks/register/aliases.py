"""Aliases of a registered model: which a version gets, and how they move.

A move is read, checked, set, read again, and recorded in a tag of the registered model, so that whoever sees the
registry sees who moved what, when and why; the newest move comes last. The name is what somebody typed, which nobody
checked: where MLflow knows its users, the one that asked it is recorded beside the name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import TransientError, UsageError
from infra.servers.tracking import alias_of, quiet, tracking_place
from infra.storage.manifest import Manifest

CHAMPION, CHALLENGER = "champion", "challenger"
"""The version that serves, and the newest one that passed the gate."""

PASSED = "passed"
"""Verdict of the gate that lets a version have an alias."""

AUTOMATIC = "automatic"
"""`register.promote` under which the gate alone makes a champion."""

MOVES_TAGS = {alias: f"stillroom.{alias}_moves" for alias in (CHAMPION, CHALLENGER)}
"""Tags of a registered model: the moves of each alias."""

RULE = "register.promote: "
"""How the name begins where the spec decided, not a person."""

_MOST = 100  # moves that are kept
_LONGEST = 300  # characters of a reason; the tag holds 100 of them


@dataclass(frozen=True)
class AliasMove:
    """One move of an alias.

    Attributes:
        version: that got it; "" where nobody has it.
        before: that had it until then; "" for none.
        by, reason: as typed.
        at: UTC, ISO 8601, seconds.
        user: as whom MLflow was asked; "" where it knows no users.
    """

    version: str
    before: str
    by: str
    reason: str
    at: str
    user: str = ""

    def to_json(self) -> dict[str, str]:
        """JSON-safe."""
        return asdict(self)

    @property
    def who(self) -> str:
        """For people: the name, and what it rests on."""
        return who_text(self.by, self.user)


def who_text(by: str, user: str) -> str:
    """Who decided, for people.

    Args:
        by: as typed, or a rule of the spec.
        user: as whom MLflow was asked; "" where it knows no users.
    """
    if by.startswith(RULE):
        return f"the gate ({by})"
    return f"{by} (as typed{f', by the MLflow user {user}' if user else '; nobody checked the name'})"


@dataclass(frozen=True)
class AliasDecision:
    """The alias that a version gets in addition to challenger, or challenger alone, or none (""), and why."""

    alias: str
    reason: str


def decide(promote: str, new: Any, champion: Any | None, gate: Manifest | None) -> AliasDecision:
    """Apply the gate's verdict and `register.promote`.

    Args:
        promote: by_hand or automatic.
        new: the new version.
        champion: the version that is champion now, or None.
        gate: manifest of stage gate; None: nobody asked for one.
    """
    if gate is not None and gate.facts["verdict"] != PASSED:
        return AliasDecision("", f"the gate is closed: {gate.facts['why']}")
    if champion is not None and champion.version == new.version:
        return AliasDecision(CHAMPION, "it is the champion already")
    if promote != AUTOMATIC:
        return AliasDecision(CHALLENGER, "register.promote is by_hand: a person promotes")
    compared = None if gate is None else gate.facts["champion"]
    known = "" if compared is None else compared["version"]
    if gate is not None and known != number_of(champion):
        return AliasDecision(
            CHALLENGER,
            f"the champion is {_named(number_of(champion))} by now, and the gate compared with {_named(known)}; "
            "run the line again to have them compared",
        )
    if champion is None:
        return AliasDecision(CHAMPION, "there was no champion")
    return AliasDecision(CHAMPION, f"it passed every rule of the gate, beside version {champion.version}")


def move_aliases(client: Any, name: str, held: Any, promote: str, *, gate: Manifest | None = None) -> AliasDecision:
    """Make a version the challenger, and the champion where the spec says so; neither where the gate is closed.

    The caller holds VERSIONS_LOCK.

    Raises:
        TransientError: somebody else moved an alias meanwhile.
    """
    champion, challenger = (alias_of(client, name, alias) for alias in (CHAMPION, CHALLENGER))
    decision = decide(promote, held, champion, gate)
    if not decision.alias:
        return decision
    by = f"{RULE}{promote}"
    if number_of(challenger) != number_of(held):
        move_alias(client, name, CHALLENGER, held, challenger, by=by, reason="it passed the gate")
    if decision.alias == CHAMPION and number_of(champion) != number_of(held):
        move_alias(client, name, CHAMPION, held, champion, by=by, reason=decision.reason)
    return decision


def move_alias(
    client: Any, name: str, alias: str, held: Any, before: Any | None, *, by: str, reason: str, user: str = ""
) -> AliasMove:
    """Set an alias, see that it is set, and record it; the caller holds VERSIONS_LOCK.

    Args:
        held: the version that gets it.
        before: the version that has it, as it was read when the move was decided; None for none.
        user: as whom MLflow is asked; "" where it knows no users.

    Raises:
        TransientError: somebody else moved the alias meanwhile, before or after.
    """
    found = alias_of(client, name, alias)
    if number_of(found) != number_of(before):
        raise TransientError(
            f"{name}: the {alias} was {number_of(before) or 'nobody'} and is {number_of(found) or 'nobody'} now"
        )
    move = AliasMove(
        version=number_of(held),
        before=number_of(before),
        by=by.strip(),
        reason=reason.strip()[:_LONGEST],
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        user=user,
    )
    told = [*moves(client, name, alias), move][-_MOST:]
    with quiet():
        client.set_registered_model_alias(name, alias, held.version)
        client.set_registered_model_tag(name, MOVES_TAGS[alias], json.dumps([each.to_json() for each in told]))
    after = alias_of(client, name, alias)
    if number_of(after) != move.version:
        raise TransientError(f"{name}: somebody moved the {alias} to {number_of(after) or 'nobody'} at the same time")
    return move


def moves(client: Any, name: str, alias: str = CHAMPION) -> list[AliasMove]:
    """The recorded moves of a model's alias, oldest first."""
    text = registered_model(client, name).tags.get(MOVES_TAGS[alias])
    return [AliasMove(**each) for each in json.loads(text)] if text else []


def registered_model(client: Any, name: str) -> Any:
    """A registered model; UsageError where there is none, with those that there are."""
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


def number_of(version: Any | None) -> str:
    """A version's number as text; "" for none."""
    return "" if version is None else str(version.version)


def _named(number: str) -> str:
    return f"version {number}" if number else "nobody"
