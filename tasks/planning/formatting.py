"""Text of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.data.catalog import SPLITS
from tasks.data.patients import leakage_text

MOST_CLASSES = 14
MOST_NOTES = 5
MOST_SAID = 3
MOST_STAGES = 12
MOST_TEACHERS = 3


def render_plan(found: Mapping[str, Any]) -> str:
    """The text of what `plan_run` found; at most 60 lines."""
    lines = [
        f"{found['name']}: what `stillroom retrain` would do",
        f"corpus {found['corpus']} ({found['adapter']}) at {found['root']}",
        "",
        *_counts(found),
        "",
        *_files(found),
        "",
        *_labels(found),
        "",
        *_stages(found),
    ]
    said = found["last_time"]
    lines += [f"last time: {line}" for line in said[:MOST_SAID]]
    if len(said) > MOST_SAID:
        lines.append(f"last time: {len(said) - MOST_SAID} more with --json")
    notes = found["notes"]
    lines += [f"note: {note}" for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        lines.append(f"note: {len(notes) - MOST_NOTES} more with --json")
    lines += ["", "Nothing was written. Times and sizes are about right, not exact."]
    return "\n".join(lines)


def _counts(found: Mapping[str, Any]) -> list[str]:
    images, counts, prior = found["images"], found["counts"], found["prior"]
    width = max(10, *(len(name) for name in found["classes"][:MOST_CLASSES]))
    ours = [split for split in SPLITS if split not in found["official"]]
    lines = [f"  {'labelled':<{width}}" + "".join(f"{split:>9}" for split in SPLITS) + "    prior in train"]
    for name in found["classes"][:MOST_CLASSES]:
        row = "".join(f"{counts[split][name]:>9,}" for split in SPLITS)
        lines.append(f"  {name:<{width}}{row}{prior[name]:>12.1%}")
    rest = found["classes"][MOST_CLASSES:]
    if rest:
        sums = "".join(f"{sum(counts[split][name] for name in rest):>9,}" for split in SPLITS)
        lines.append(f"  {f'{len(rest)} more':<{width}}{sums}{sum(prior[name] for name in rest):>12.1%}")
    lines.append(f"  {'all images':<{width}}" + "".join(f"{images[split]:>9,}" for split in SPLITS))
    lines.append(f"  unlabelled pool: {found['unlabelled']:,} images")
    patients = f"{found['patients']:,} patients" if found["patients"] else "no patients known, each image stands alone"
    made = f"; {', '.join(ours)} split by us" if ours else "; all splits are the corpus's own"
    lines.append(f"  {patients}{made}")
    leaks, unchecked = found["leaks"], leakage_text(found["without_patient"])
    seen = f"{leaks:,} val or test images whose patient or bytes stand in train too" if leaks else "none seen"
    return [*lines, f"  leaks: {seen}" + (f"; {unchecked}" if unchecked else "")]


def _files(found: Mapping[str, Any]) -> list[str]:
    sample, sizes = found["sample"], found["bytes"]
    lines = [f"  label rows without an image: {found['missing']:,}"] if found["missing"] else []
    if found["quarantined"]:
        lines.append(f"  kept out by what the tables say: {found['quarantined']:,}")
    expected = sample["expected_unreadable"]
    lines.append(
        f"  unreadable: about {expected:,} ({sample['unreadable']} of {sample['tried']} tried"
        f", {sample['empty_files']} empty files)"
    )
    lines += [f"    {reason}: {n}" for reason, n in sample["reasons"].items()]
    parts = []
    if sizes["shards"]:
        parts.append(f"{_bytes(sizes['shards'])} in {found['shards']:,} shards ({_bytes(sizes['image'])} an image)")
    if sizes["soft_labels"]:
        parts.append(f"{_bytes(sizes['soft_labels'])} of soft labels")
    lines.append(f"  to write: about {', about '.join(parts)}" if parts else "  to write: no shards, no soft labels")
    return lines


def _labels(found: Mapping[str, Any]) -> list[str]:
    """What labelling from scratch costs: one line for each teacher, one column for each number of stored views."""
    views = sorted({row["views"] for row in found["labels"]})
    teachers = list(dict.fromkeys(row["teacher"] for row in found["labels"]))
    width = max(12, *(len(name) for name in teachers[:MOST_TEACHERS]))
    cells = {
        (row["teacher"], row["views"]): ", ".join(
            filter(None, (_bytes(row["bytes"]), _minutes((row["hours"] or 0.0) * 60).removeprefix("about ")))
        )
        for row in found["labels"]
    }
    lines = [f"  {'labels':<{width}}" + "".join(f"{f'{count} views':>18}" for count in views)]
    for name in teachers[:MOST_TEACHERS]:
        lines.append(f"  {name:<{width}}" + "".join(f"{cells[name, count]:>18}" for count in views))
    if len(teachers) > MOST_TEACHERS:
        lines.append(f"  {len(teachers) - MOST_TEACHERS} more with --json")
    return lines


def _stages(found: Mapping[str, Any]) -> list[str]:
    machine = found["machine"]
    where = "GPU" if machine["device"] == "cuda" else "CPU"
    lines = [f"  on {machine['cores']} cores, {machine['workers']} workers, {where}:"]
    stages = found["stages"]
    width = max(12, *(len(stage["stage"]) for stage in stages[:MOST_STAGES]))
    for stage in stages[:MOST_STAGES]:
        state = stage["state"] + (f" {stage['done']} of {stage['total']}" if stage["state"] == "partly" else "")
        told = _minutes(stage["minutes"]) or _fit(stage["fit"])
        if stage["steps"]:
            told = f"{told:<14}{stage['steps']:,} steps"
        lines.append(f"  {stage['stage']:<{width}}  {state:<18}{told}".rstrip())
    if len(stages) > MOST_STAGES:
        rest = stages[MOST_STAGES:]
        lines.append(f"  {len(rest)} more{_minutes(sum(s['minutes'] or 0.0 for s in rest)):>28}")
    lines.append(f"  in all{_minutes(found['minutes']) or 'everything is cached: seconds':>30}")
    return lines


def _fit(fit: Mapping[str, float]) -> str:
    """How closely a cached student follows its teachers."""
    parts = [
        f"{where} {fit[f'{split}_teacher_kl']:.3g} (constant {fit[f'{split}_constant_kl']:.3g})"
        for split, where in (("train", "training"), ("val", "validation"))
        if f"{split}_teacher_kl" in fit and f"{split}_constant_kl" in fit
    ]
    return f"KL from teachers: {', '.join(parts)}" if parts else ""


def _minutes(minutes: float | None) -> str:
    if not minutes:
        return ""
    if minutes < 1:
        return f"about {max(1, round(minutes * 60))} s"
    return f"about {minutes:.0f} min" if minutes < 120 else f"about {minutes / 60:.1f} h"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
