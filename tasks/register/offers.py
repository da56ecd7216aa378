"""Versions that are offered to a person: which one may be asked about, and what a refusal leaves behind.

A version is offered once it passed the gate, until it is champion or refused, or another one takes its place. What the
person reads is a comparison with the champion of that time: where another version serves by now, it says nothing any
more, and the line has to run again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import UsageError
from infra.servers.mlflow_errors import mlflow_errors
from infra.servers.tracking import VERSIONS_LOCK, alias_of, connect, quiet, versions
from infra.servers.tracking_user import tracking_user
from tasks.register.aliases import CHALLENGER, CHAMPION, PASSED, moves, number_of, registered_model, who_text
from tasks.register.gate_tags import AGAINST_TAG, GATE_TAG, WHY_TAG

REFUSED_TAG = "stillroom.refused"
"""Tag of a version that a person refused, JSON: `Refusal` without the version."""

_LONGEST = 300  # characters of a reason


@dataclass(frozen=True)
class Offer:
    """A version that waits for a person.

    Attributes:
        champion: number of the version that serves; "" for none.
        description: Markdown: purpose, verdict, figures, limits.
    """

    name: str
    version: str
    champion: str
    description: str


@dataclass(frozen=True)
class Refusal:
    """Who refused a version, why and when; `user` as whom MLflow was asked, "" where it knows no users."""

    version: str
    by: str
    reason: str
    at: str
    user: str = ""

    def to_json(self) -> dict[str, str]:
        """JSON-safe."""
        return asdict(self)

    @property
    def text(self) -> str:
        """For people, in one line."""
        return f"refused on {self.at[:10]} by {who_text(self.by, self.user)}: {self.reason}"


@dataclass(frozen=True)
class Standing:
    """What the registry says of a version and of who serves.

    Attributes:
        champion: number of the version that serves; "" for none.
        approved: who made that one champion, when and why, for people; "" where no move of it is recorded.
        refusal: of the version that was asked about.
    """

    champion: str
    approved: str
    refusal: Refusal | None


def offer(name: str, version: str = "") -> Offer:
    """A version that a person may be asked about.

    Args:
        version: its number; "": the challenger, which is the newest that passed the gate.

    Raises:
        UsageError: there is no such model or version, or it may not be offered, and why.
        TransientError: MLflow cannot be reached or fails.
    """
    with mlflow_errors():
        client = connect()
        if not version:
            registered_model(client, name)
            version = number_of(alias_of(client, name, CHALLENGER))
            if not version:
                raise UsageError(f"{name} has no challenger: no version of it passed the gate")
        held = version_named(client, name, version)
        champion = alias_of(client, name, CHAMPION)
        check_offer(client, name, held, champion)
    return Offer(name, str(held.version), number_of(champion), held.description or "")


def check_offer(client: Any, name: str, held: Any, champion: Any | None) -> None:
    """Return where a version may be offered, or still may.

    Args:
        held: the version.
        champion: the version that serves now.

    Raises:
        UsageError: it did not pass the gate, was refused, serves already, is older than the champion or a newer offer,
            or was compared with another champion.
    """
    number, serves = str(held.version), number_of(champion)
    title = f"{name} version {number}"
    check_passed(name, held)
    check_not_refused(name, held)
    if serves == number:
        raise UsageError(f"{title} is the champion already")
    if serves and int(serves) > int(number):
        raise UsageError(f"{title} is older than the champion, which is version {serves} by now; nothing was changed")
    newest = alias_of(client, name, CHALLENGER)
    if newest is not None and int(newest.version) > int(number) and refusal_of(newest) is None:
        raise UsageError(f"{title} was replaced: version {newest.version} is offered by now; decide on that one")
    against = held.tags.get(AGAINST_TAG)
    if against is not None and against.partition(" ")[0] != serves:
        known = against.partition(" ")[0]
        raise UsageError(
            f"{title} was compared with {f'version {known}' if known else 'nobody'}, and the champion is "
            f"{f'version {serves}' if serves else 'nobody'} by now; run the line again to have them compared"
        )


def check_passed(name: str, held: Any) -> None:
    """Return where a version passed the gate; UsageError otherwise, drift that holds it included."""
    verdict = held.tags.get(GATE_TAG, "not judged")
    if verdict != PASSED:
        why = held.tags.get(WHY_TAG, "it was registered before there was a gate")
        raise UsageError(
            f"{name} version {held.version} did not pass the gate ({verdict}: {why}); it cannot be champion"
        )


def check_not_refused(name: str, held: Any, hint: str = "") -> None:
    """Return where nobody refused a version; UsageError otherwise.

    Args:
        hint: what to do about it, at the end of the message.
    """
    found = refusal_of(held)
    if found is not None:
        raise UsageError(f"{name} version {held.version} was {found.text}{hint}")


def refuse(name: str, version: str, *, by: str, reason: str) -> Refusal:
    """Record that a person does not want a version; its aliases stay, and it is not offered again.

    Raises:
        UsageError: there is no such model or version, it serves, was refused before, or a word is blank.
    """
    check_words(by, reason)
    with mlflow_errors():
        client, user = connect(), tracking_user()
        with VERSIONS_LOCK:
            held = version_named(client, name, version)
            check_not_refused(name, held)
            if number_of(alias_of(client, name, CHAMPION)) == str(held.version):
                raise UsageError(f"{name} version {version} is the champion; to take it out of service: rollback")
            at = datetime.now(UTC).isoformat(timespec="seconds")
            made = Refusal(str(held.version), by.strip(), reason.strip()[:_LONGEST], at, user)
            told = {key: value for key, value in made.to_json().items() if key != "version"}
            with quiet():
                client.set_model_version_tag(name, held.version, REFUSED_TAG, json.dumps(told))
    return made


def standing(name: str, version: str) -> Standing:
    """What people want to know of a version after a run.

    Raises:
        UsageError, TransientError: MLflow refuses us, or fails.
    """
    with mlflow_errors():
        client = connect()
        champion = alias_of(client, name, CHAMPION)
        serves = number_of(champion)
        move = (
            next((each for each in reversed(moves(client, name)) if each.version == serves), None) if serves else None
        )
        held = version_named(client, name, version)
    approved = f"{move.who} on {move.at[:10]}: {move.reason}" if move else ""
    return Standing(serves, approved, refusal_of(held))


def refusal_of(held: Any) -> Refusal | None:
    """The refusal that a version carries."""
    text = held.tags.get(REFUSED_TAG)
    return Refusal(version=str(held.version), **json.loads(text)) if text else None


def version_named(client: Any, name: str, version: str) -> Any:
    """A version of a registered model; UsageError where there is none, with those that there are."""
    registered_model(client, name)
    known = {str(each.version): each for each in versions(client, name)}
    if str(version) not in known:
        raise UsageError(f"{name} has no version {version}; it has {', '.join(known) or 'none'}")
    return known[str(version)]


def check_words(by: str, reason: str) -> None:
    """Return where somebody said who decides and why; UsageError otherwise."""
    for option, text in (("--by", by), ("--reason", reason)):
        if not text.strip():
            raise UsageError(f"{option} is blank: the registry records who moved the champion, and why")
