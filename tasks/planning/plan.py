"""`stillroom plan SPEC`: what a run would find, make, cost and reuse. Writes nothing and starts nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from infra.storage.store import open_store
from tasks.distill.teacher_comparison import FIT
from tasks.ingest.overlay_counts import overlay_note
from tasks.label.costs import LabelCost, label_cost, planned_shard_rows
from tasks.pipeline.graph import Step
from tasks.planning.combined_counts import count_corpora
from tasks.planning.corpus_counts import CorpusCounts
from tasks.planning.costs import PlanCosts, estimate_costs
from tasks.planning.dry_run import CACHED, StepState, dry_run
from tasks.planning.formatting import render_plan
from tasks.planning.machine import Machine
from tasks.planning.networks import build_networks, corpus_of_counts
from tasks.spec import Spec

__all__ = ["plan_run", "render_plan"]

VIEWS = (1, 4, 16)
"""Numbers of stored views whose cost is reported in addition to the spec's own."""


def plan_run(spec: Spec, steps: Sequence[Step]) -> dict[str, Any]:
    """Count the corpus, look up what is cached and estimate the rest.

    Args:
        steps: of the spec's line; see `flows/line.py`.

    Returns:
        JSON-safe values: name, store, corpus, adapter, root, drawn, task, classes, images, counts, prior, patients,
        official, unlabelled, missing, quarantined, leaks, sample, bytes, labels (`tasks.label.costs.LabelCost` of
        every teacher at several numbers of views, as if nothing were cached; hours null where not measured), stages
        (stage, state, done, total, minutes or null, steps of a training that is not cached or null, fit: how closely a
        cached student follows its teachers), last_time (what the report that is cached says first), minutes,
        rates, machine, notes, wrote (nothing).

    Raises:
        UsageError, BudgetError: as a run of the spec would, as far as that can be seen before it.
    """
    store = open_store(spec.store)
    counts = count_corpora(spec, store)
    corpus = corpus_of_counts(counts, store)
    built, teacher_ids = build_networks(spec, corpus, store)
    states = dry_run(spec, store, steps, [each.manifest for each in counts.each])
    machine = Machine.of(spec)
    costs = estimate_costs(spec, counts, steps, states, built, teacher_ids, corpus, machine)
    labels = _labels(spec, counts, costs)
    facts = counts.facts
    minutes = {title: seconds / 60 for title, seconds in costs.seconds.items()}
    return {
        "name": spec.name,
        "store": spec.store,
        "corpus": spec.corpus_title,
        "adapter": ", ".join(corpus.adapter for corpus in spec.each_corpus),
        # An archive's or a folder's name may say whose images it holds.
        "root": ", ".join("(private)" if corpus.private else str(corpus.root) for corpus in spec.each_corpus),
        "drawn": counts.drawn,
        "task": facts["task"],
        "classes": facts["classes"],
        "images": counts.in_split,
        "counts": facts["counts"],
        "prior": {name: round(share, 4) for name, share in _prior(counts).items()},
        "patients": counts.patients,
        "without_patient": counts.without_patient,
        "official": facts["official"],
        "unlabelled": facts["unlabelled"],
        "missing": facts["missing"],
        "quarantined": facts["quarantined"],
        "leaks": facts["leaks"],
        "sample": _sample(counts),
        "bytes": {
            "shards": round(counts.sample.image_bytes * counts.images),
            "image": round(counts.sample.image_bytes),
            "soft_labels": sum(
                cost.bytes
                for cost in labels
                if cost.views == spec.for_labels.views.count and _is_made(states.get(f"label {cost.teacher}"))
            ),
        },
        "labels": [asdict(cost) for cost in labels],
        "shards": counts.shards,
        "stages": [
            {
                "stage": title,
                "state": state.state,
                "done": state.done,
                "total": state.total,
                "minutes": round(minutes[title], 4) if title in minutes else None,
                "steps": costs.steps.get(title),
                "fit": {name: state.best[name] for name in FIT if name in state.best},
            }
            for title, state in states.items()
        ],
        "last_time": [line for state in states.values() for line in state.said],
        "minutes": round(sum(minutes.values()), 4),
        "rates": {name: float(f"{rate:.3g}") for name, rate in costs.rates.items()},
        "machine": {"cores": machine.cores, "workers": machine.slots, "device": machine.device},
        "notes": list(
            dict.fromkeys(
                [*_notes(counts, machine, states, costs), *(note for one in built.values() for note in one.notes)]
            )
        ),
        "wrote": [],
    }


def _sample(counts: CorpusCounts) -> dict[str, Any]:
    """What reading some files suggests about all of them."""
    sample = counts.sample
    bad = len(sample.reasons)
    expected = round(counts.readable * bad / sample.tried) if sample.tried else 0
    return {
        "tried": sample.tried,
        "unreadable": bad,
        "empty_files": counts.empty,
        "expected_unreadable": counts.empty + max(expected, bad),
        "reasons": dict(Counter(sample.reasons).most_common(3)),
    }


def _prior(counts: CorpusCounts) -> dict[str, float]:
    """Class prior over the labelled training images."""
    own: dict[str, int] = counts.facts["counts"]["train"]
    whole = sum(own.values())
    return {name: n / whole if whole else 0.0 for name, n in own.items()}


def _labels(spec: Spec, counts: CorpusCounts, costs: PlanCosts) -> list[LabelCost]:
    """Costs of labelling anew, teacher by teacher, at the spec's number of views and at others."""
    if counts.manifest is not None:
        shards = [(str(o.meta["split"]), o.samples) for o in counts.manifest.outputs_where(kind="shard")]
    else:
        shards = planned_shard_rows(counts.in_split, spec.ingest.shard_size)
    return label_cost(
        shards,
        costs.teachers,
        sorted({spec.for_labels.views.count, *VIEWS}),
        mixed=spec.views.mix != "none",
        val_views=spec.val_views,
    )


def _is_made(state: StepState | None) -> bool:
    """Whether a run makes the objects of a step; a line that ends earlier does not have the step."""
    return state is not None and state.state != CACHED


def _notes(counts: CorpusCounts, machine: Machine, states: dict[str, StepState], costs: PlanCosts) -> list[str]:
    notes = list(counts.facts.get("notes", []))
    if counts.drawn:
        notes += overlay_note(counts.sampled_overlays, f" in {len(counts.sample.overlays)} images that were read")
    if machine.elsewhere:
        notes.append(f"times are of this machine, the work would be done at {machine.elsewhere}")
    if costs.remembered:
        notes.append(f"rates of earlier runs on this kind of machine: {', '.join(dict.fromkeys(costs.remembered))}")
    if costs.reference:
        notes.append(
            f"label times of {', '.join(costs.reference)} are of the reference engine (eager, float32); a run takes "
            "the fastest engine and may be faster"
        )
    if os.getloadavg()[0] > 1.5 * machine.cores and machine.device == "cpu":
        notes.append(f"the machine is busy (load {os.getloadavg()[0]:.0f} on {machine.cores} cores): times are of now")
    if counts.unhashed and counts.drawn:
        notes.append(f"{counts.unhashed} files were never hashed: leaks by equal bytes show only after the ingest")
    ingests = [state for title, state in states.items() if title.partition(" ")[0] == "ingest"]
    stored = sum(sum(each.in_split.values()) for each in counts.each) - counts.images
    if stored and any(state.state != CACHED for state in ingests):
        notes.append("the ingest adds to an earlier one; later stages will find what they made of its shards")
    return notes
