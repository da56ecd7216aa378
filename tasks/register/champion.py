"""Who is champion: the rule that compares a new version with the one that serves now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.statistics.metrics import LOWER_IS_BETTER

CHALLENGER, CHAMPION = "challenger", "champion"


@dataclass(frozen=True)
class Verdict:
    """The alias a version earned beside challenger (or challenger alone), and why."""

    alias: str
    reason: str


def decide(policy: str, new: Any, champion: Any | None) -> Verdict:
    """Apply `register.champion`.

    Args:
        policy: if_none, if_better or never.
        new: the new version; its tags hold the metric, its value and the ingest manifest.
        champion: the version that holds the alias now, or None.
    """
    if champion is not None and champion.version == new.version:
        return Verdict(CHAMPION, "it is the champion already")
    if policy == "never":
        return Verdict(CHALLENGER, "register.champion is never: a person promotes")
    if champion is None:
        return Verdict(CHAMPION, "there was no champion")
    if policy == "if_none":
        return Verdict(CHALLENGER, f"version {champion.version} is champion and register.champion is if_none")
    return _better(new, champion)


def _better(new: Any, champion: Any) -> Verdict:
    ours, theirs = new.tags, champion.tags
    who = f"version {champion.version}"
    if ours["stillroom.manifest.ingest"] != theirs.get("stillroom.manifest.ingest"):
        return Verdict(CHALLENGER, f"{who} was judged on other data, so the figures cannot be compared")
    metric = ours["stillroom.metric"]
    if metric != theirs.get("stillroom.metric"):
        return Verdict(CHALLENGER, f"{who} was judged by {theirs.get('stillroom.metric')}, this one by {metric}")
    values = ours["stillroom.metric_value"], theirs.get("stillroom.metric_value")
    if not values[0] or not values[1]:
        return Verdict(CHALLENGER, f"{metric} is undefined for one of the two")
    mine, other = float(values[0]), float(values[1])
    wins = mine < other if metric in LOWER_IS_BETTER else mine > other
    words = f"{metric} {mine:.4f} on the same test images, {who} has {other:.4f}"
    return Verdict(CHAMPION if wins else CHALLENGER, words)
