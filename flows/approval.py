"""Who approved the champion, and whether somebody is asked about the version that a run registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.asking import Asked, ask
from infra.errors import StillroomError
from tasks.gate.rules import PASSED
from tasks.register.aliases import AUTOMATIC
from tasks.register.offers import Standing, offer, standing


def approval(promote: str, registered: Mapping[str, Any] | None, gate: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a person where the run offers a version; JSON-safe: model, version, champion, approver, asked, link, run.

    `champion` is the version that serves ("" for none), `approver` who made it that, `asked` what becomes of this run's
    version, `link` and `run` of the run that waits ("" where none does), `new` whether that run was started now.

    Args:
        promote: `register.promote` of the spec.
        registered: facts of stage register; None where the run ended before.
        gate: facts of stage gate; empty where it did not run.
    """
    found: dict[str, Any] = dict.fromkeys(("model", "version", "champion", "approver", "asked", "link", "run"), "")
    found["new"] = False
    if registered is None:
        return {**found, "asked": "nobody is asked: this run registered no version"}
    name, version = registered["name"], registered["version"]
    found |= {"model": name, "version": version}
    try:
        known = standing(name, version)
        asked, text = _asked(promote, name, version, known, gate)
    except StillroomError as error:
        # The run itself is done, and the next one asks.
        return {**found, "asked": f"nobody is asked yet: {error}"}
    found |= {"champion": known.champion, "approver": known.approved or "not recorded" * bool(known.champion)}
    if asked is not None:
        found |= {"link": asked.link, "run": asked.run_id, "new": asked.new}
    return {**found, "asked": text}


def _asked(promote: str, name: str, version: str, known: Standing, gate: Mapping[str, Any]) -> tuple[Asked | None, str]:
    if known.champion == version:
        return None, f"version {version} is the champion"
    if known.refusal is not None:
        return None, f"version {version} was {known.refusal.text}"
    if gate.get("verdict", PASSED) != PASSED:
        return None, f"nobody is asked: the gate did not let version {version} pass"
    if promote == AUTOMATIC:
        return None, "nobody is asked: register.promote is automatic"
    offer(name, version)
    asked = ask(name, version)
    if asked is not None:
        return asked, f"version {version} waits for approval"
    by_hand = f'stillroom promote {name} --version {version} --by "Dr. Example" --reason "why"'
    return None, f"version {version} waits for a person, and no run asks one; {by_hand}"
