"""`stillroom plan SPEC`: what a run would find, make, cost and reuse. Writes nothing, starts nothing."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import Any

from infra.storage.store import open_store
from tasks.label.costs import LabelCost, label_cost, planned
from tasks.planning.costs import Costs, Machine, costs_of
from tasks.planning.counts import Numbers, numbers_of
from tasks.planning.dry_run import CACHED, TO_DO, State, rehearse
from tasks.planning.formatting import render_plan
from tasks.planning.networks import networks, stand_in
from tasks.spec import Spec

__all__ = ["plan_run", "render_plan"]

VIEWS = (1, 4, 16)
"""Numbers of stored views whose cost is told beside that of the spec's own."""


def plan_run(spec: Spec) -> dict[str, Any]:
    """Look, sample, measure and look up.

    Returns:
        JSON-safe values: name, store, corpus, adapter, root, drawn, task, classes, images, counts, prior, patients,
        official, unlabelled, missing, quarantined, leaks, sample, bytes, labels (`tasks.label.costs.LabelCost` of
        every teacher at several numbers of views, as if nothing were cached; hours null where not measured), stages
        (stage, state, done, total, minutes or null), minutes, rates, machine, notes, wrote (nothing).

    Raises:
        UsageError, BudgetError: as a run of the spec would, as far as that can be seen before it.
    """
    store = open_store(spec.store)
    numbers = numbers_of(spec, store)
    corpus = stand_in(numbers, store)
    built = networks(spec, corpus, store)
    states = {"ingest": State(CACHED if numbers.manifest is not None else TO_DO)}
    states |= rehearse(spec, store, numbers.manifest)
    machine = Machine.of(spec)
    costs = costs_of(spec, numbers, states, built, corpus, machine)
    labels = _labels(spec, numbers, costs)
    facts = numbers.facts
    minutes = {title: seconds / 60 for title, seconds in costs.seconds.items()}
    return {
        "name": spec.name,
        "store": spec.store,
        "corpus": spec.corpus.title,
        "adapter": spec.corpus.adapter,
        "root": str(spec.corpus.root),
        "drawn": numbers.drawn,
        "task": facts["task"],
        "classes": facts["classes"],
        "images": numbers.in_split,
        "counts": facts["counts"],
        "prior": {name: round(share, 4) for name, share in _prior(numbers).items()},
        "patients": numbers.patients,
        "official": facts["official"],
        "unlabelled": facts["unlabelled"],
        "missing": facts["missing"],
        "quarantined": facts["quarantined"],
        "leaks": facts["leaks"],
        "sample": _sample(numbers),
        "bytes": {
            "shards": round(numbers.sample.image_bytes * numbers.images),
            "image": round(numbers.sample.image_bytes),
            "soft_labels": sum(
                cost.bytes
                for cost in labels
                if cost.views == spec.for_labels.views.count and states[f"label {cost.teacher}"].state != CACHED
            ),
        },
        "labels": [asdict(cost) for cost in labels],
        "shards": numbers.shards,
        "stages": [
            {
                "stage": title,
                "state": state.state,
                "done": state.done,
                "total": state.total,
                "minutes": round(minutes[title], 4) if title in minutes else None,
            }
            for title, state in states.items()
        ],
        "minutes": round(sum(minutes.values()), 4),
        "rates": {name: float(f"{rate:.3g}") for name, rate in costs.rates.items()},
        "machine": {"cores": machine.cores, "workers": machine.slots, "device": machine.device},
        "notes": _notes(numbers, machine, states),
        "wrote": [],
    }


def _sample(numbers: Numbers) -> dict[str, Any]:
    """What reading some files says of all."""
    sample = numbers.sample
    bad = len(sample.reasons)
    expected = round(numbers.readable * bad / sample.tried) if sample.tried else 0
    return {
        "tried": sample.tried,
        "unreadable": bad,
        "empty_files": numbers.empty,
        "expected_unreadable": numbers.empty + max(expected, bad),
        "reasons": dict(Counter(sample.reasons).most_common(3)),
    }


def _prior(numbers: Numbers) -> dict[str, float]:
    """Class prior over the labelled training images."""
    own: dict[str, int] = numbers.facts["counts"]["train"]
    whole = sum(own.values())
    return {name: n / whole if whole else 0.0 for name, n in own.items()}


def _labels(spec: Spec, numbers: Numbers, costs: Costs) -> list[LabelCost]:
    """Costs of labelling anew, teacher by teacher, at the spec's number of views and at others."""
    if numbers.manifest is not None:
        shards = [(str(o.meta["split"]), o.samples) for o in numbers.manifest.outputs_where(kind="shard")]
    else:
        shards = planned(numbers.in_split, spec.ingest.shard_size)
    return label_cost(
        shards, costs.teachers, sorted({spec.for_labels.views.count, *VIEWS}), mixed=spec.views.mix != "none"
    )


def _notes(numbers: Numbers, machine: Machine, states: dict[str, State]) -> list[str]:
    notes = list(numbers.facts.get("notes", []))
    if machine.elsewhere:
        notes.append(f"times are of this machine, the work would be done at {machine.elsewhere}")
    if os.getloadavg()[0] > 1.5 * machine.cores and machine.device == "cpu":
        notes.append(f"the machine is busy (load {os.getloadavg()[0]:.0f} on {machine.cores} cores): times are of now")
    if numbers.unhashed and numbers.drawn:
        notes.append(f"{numbers.unhashed} files were never hashed: leaks by equal bytes show only after the ingest")
    if states["ingest"].state != CACHED and numbers.images < sum(numbers.in_split.values()):
        notes.append("the ingest adds to an earlier one; later stages will find what they made of its shards")
    return notes
