"""`stillroom study --plan`: what a study would train, what is cached, how long it takes; runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.line import line
from flows.parameters import Override
from flows.study import design
from tasks.drawing.markdown import table_text
from tasks.planning.dry_run import CACHED
from tasks.planning.plan import plan_run
from tasks.study.design import Condition
from tasks.study.studies import trained_weights

TRAININGS = ("distill", "teach")


def plan_study(kind: str, spec: Path, overrides: Sequence[str], arms: list[str], seeds: list[int]) -> dict[str, Any]:
    """Plan every condition as a run of its own; what conditions share is counted with the first.

    Learning rates are not chosen yet: trainings with the first seed count once a rate, with all others once.

    Returns:
        JSON-safe: kind, primary (in words), conditions (name, title, trainings, cached, minutes), trainings, cached,
        minutes (None where the cost of a stage is not known), notes.

    Raises:
        UsageError, CorpusError: as the study would, as far as that can be seen before it.
    """
    base, study = design(kind, str(spec), [Override.model_validate(text) for text in overrides], arms)
    rates = base.section.rates
    rows = []
    shared: set[tuple[str, int | None]] = set()
    notes: list[str] = []
    first = Condition("teachers", "teachers, on all labels", {}, {})
    weights = trained_weights(base) if study.teachers_first and base.folds == [None] else None
    parts = [
        (each, fold) for each in [*([first] if study.teachers_first else []), *study.conditions] for fold in base.folds
    ]
    for each, fold in parts:
        same = dict.fromkeys(each.arms, rates[0])
        planned = base.whole(fold) if each is first else base.spec_of(each, seeds, same, weights, fold)
        found = plan_run(planned, line(planned).up_to("teach" if each is first else "evaluate"))
        stages = [stage for stage in found["stages"] if (stage["stage"], fold) not in shared]
        stages = [stage for stage in stages if (stage["stage"], None) not in shared]
        ingests = ("ingest", "combine")
        once = (*ingests, *(["teach"] if study.teachers_first and not each.own_teachers else []))
        shared |= {
            (stage["stage"], None if kind in ingests else fold)
            for stage in stages
            if (kind := stage["stage"].partition(" ")[0]) in once
        }
        times = Counter({stage["stage"]: _times(stage["stage"], seeds[0], len(rates)) for stage in stages})
        trained = [stage for stage in stages if stage["stage"].partition(" ")[0] in TRAININGS]
        minutes = [(stage["minutes"], times[stage["stage"]]) for stage in stages if stage["state"] != CACHED]
        known = [value * count for value, count in minutes if value is not None]
        rows.append(
            {
                "name": each.name,
                "title": each.title if fold is None else f"{each.title}, fold {fold}",
                "trainings": sum(times[stage["stage"]] for stage in trained),
                "cached": sum(stage["state"] == CACHED for stage in trained),
                "minutes": round(sum(known), 2),
            }
        )
        notes += found["notes"]
    if study.teachers_first and weights is None:
        notes.append("the teachers are not trained yet: what of the conditions is cached cannot be said before")
    main = study.primary
    titles = {each.name: each.title for each in study.conditions}
    return {
        "kind": study.kind,
        "primary": f"{study.titles[main.cell.arm]} minus {study.titles[main.baseline.arm]}, "
        f"{titles[main.cell.condition]}",
        "arms": dict(study.titles),
        "seeds": seeds,
        "rates": rates,
        "conditions": rows,
        **{name: sum(row[name] for row in rows) for name in ("trainings", "cached")},
        "minutes": round(sum(row["minutes"] for row in rows), 2),
        "notes": list(dict.fromkeys([*study.notes, *notes])),
        "wrote": [],
    }


def _times(title: str, first: int, rates: int) -> int:
    """How often a step runs: students of the first seed once a learning rate."""
    return rates if title.startswith("distill ") and title.endswith(f"seed {first}") else 1


def render_study_plan(found: dict[str, Any]) -> str:
    """The plan for people."""
    rows = [
        [row["title"], str(row["trainings"]), str(row["cached"]), f"{row['minutes']:.1f}"]
        for row in found["conditions"]
    ]
    total = ["all", str(found["trainings"]), str(found["cached"]), f"{found['minutes']:.1f}"]
    lines = [
        f"study {found['kind']}: {len(found['arms'])} arms, seeds {', '.join(map(str, found['seeds']))}, "
        f"learning rates x {', '.join(f'{rate:g}' for rate in found['rates'])}",
        f"primary contrast: {found['primary']}",
        "",
        table_text(["condition", "trainings", "cached", "minutes"], [*rows, total]),
        "",
        *(f"  {name}: {title}" for name, title in found["arms"].items()),
        "",
        *(f"note: {note}" for note in found["notes"]),
    ]
    return "\n".join(lines)
