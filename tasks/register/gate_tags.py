"""What a version of the registry says of the gate: tags that people read, and that the next gate compares with."""

from __future__ import annotations

import json

from infra.storage.manifest import Manifest

GATE_TAG, WHY_TAG = "stillroom.gate", "stillroom.gate_why"
"""The verdict, and what did not pass."""

RULES_TAG, REVISION_TAG = "stillroom.gate_rules", "stillroom.gate_revision"
"""What the gate asked for, as JSON {digest, rules}, and `gate.revision`."""

AGAINST_TAG = "stillroom.gate_against"
"""The version that the student was compared with, and the key of that one's student; "" for none."""

TEST_SET_TAG = "stillroom.test_set"
"""Digest of the labelled test images that it was judged on."""

DRIFT_TAG = "stillroom.drift"
"""Whether the student's images drifted from the champion's: "none", or "drift: " and what did."""

_LONGEST = 5000  # characters of a tag: what MLflow's page still shows


def gate_tags(gate: Manifest | None) -> dict[str, str]:
    """Tags of a version that a gate judged; none without one."""
    if gate is None:
        return {}
    facts = gate.facts
    champion, asked = facts["champion"], facts["asked"]
    found = {
        GATE_TAG: facts["verdict"],
        "stillroom.manifest.gate": gate.digest,
        RULES_TAG: json.dumps({name: asked[name] for name in ("digest", "rules")}, sort_keys=True),
        REVISION_TAG: str(asked["revision"]),
        AGAINST_TAG: "" if champion is None else champion["against"],
        TEST_SET_TAG: facts["test"]["digest"],
    }
    if facts["why"]:
        found[WHY_TAG] = facts["why"][:_LONGEST]
    drift = facts.get("drift")
    if drift is not None:
        told = f"{drift['verdict']}: {drift['why']}" if drift["signals"] else drift["verdict"]
        found[DRIFT_TAG] = told[:_LONGEST]
    if facts["operating_point"] is not None:
        found["stillroom.operating_point"] = json.dumps(facts["operating_point"])
    return found
