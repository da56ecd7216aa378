"""What the gate asks for, and whether that changed in silence since the champion was judged.

A gate that is loosened after it failed, or a test set whose hard images were taken out, proves nothing. Both may be
right; then a person says so by raising `gate.revision`, which every version of the registry carries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from infra.digest import digest_of
from infra.errors import SpecError
from tasks.gate.opponent import Champion
from tasks.gate.test_set import Changes
from tasks.register.gate_tags import REVISION_TAG, RULES_TAG
from tasks.spec import Spec

_NAMED = 3  # images that a message names


def asked_of(spec: Spec, facts: Mapping[str, Any]) -> dict[str, Any]:
    """`rules`: every key that the verdict depends on, as the spec names it, with its value; their `digest`; `revision`.

    Args:
        facts: of the report's manifest: what it was judged by.
    """
    rules = {f"gate.{name}": value for name, value in spec.gate.asked().items()}
    if spec.gate.enabled:
        rules |= {"evaluate.metric": facts["metric"]}
        screening = facts.get("screening")
        if screening is not None:
            rules |= {f"evaluate.{name}": screening[name] for name in ("unit", "aggregate")}
            rules["evaluate.referable"] = screening["first"]
    rules = json.loads(json.dumps(rules))
    return {"digest": digest_of(rules), "rules": rules, "revision": spec.gate.revision}


def refuse_silent_changes(asked: Mapping[str, Any], champion: Champion, changes: Changes | None) -> None:
    """Compare the gate and its test set with those that the champion was judged by.

    A rule that is new to this release and asks for nothing is no change. Champions of before rules were recorded are
    compared by the test set alone.

    Raises:
        SpecError: something changed and `gate.revision` was not raised; every rule is named with both values.
    """
    before = int(champion.tags.get(REVISION_TAG, 1))
    if asked["revision"] > before:
        return
    recorded = champion.tags.get(RULES_TAG)
    found = [] if recorded is None else _rules(json.loads(recorded)["rules"], asked["rules"])
    if changes is not None:
        found += [
            f"{len(keys)} test images were {what} ({', '.join(keys[:_NAMED])}{', ...' if len(keys) > _NAMED else ''})"
            for what, keys in (("removed", changes.removed), ("relabelled", changes.relabelled))
            if keys
        ]
    if not found:
        return
    raise SpecError(
        f"the gate is not the one that {champion.name} version {champion.version}, the champion, was judged by: "
        f"{'; '.join(found)}. Take that back; or, if it is meant, set gate.revision: {before + 1} (the champion has "
        f"{before}), and the registry records it"
    )


def _rules(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Rules that differ, as "name: old -> new"."""
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}: {_text(before, name)} -> {_text(now, name)}"
        for name in names
        if before.get(name) != now.get(name) and not (name not in before and now[name] in (None, {}, []))
    ]


def _text(rules: Mapping[str, Any], name: str) -> str:
    return json.dumps(rules[name], ensure_ascii=False) if name in rules else "not asked for"
