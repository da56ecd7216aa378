"""What a run does once its corpora are ingested: train, or only label what is new, or nothing.

The images that are new are those stored since the last training. No record of it is kept: every ingest names the one
that it went on from, and the corpus of the last training is the newest one of them for which the store holds the
students of this spec. So a spec that asks for other students trains, however few images are new.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.storage.manifest import Manifest, manifest_name
from infra.storage.store import MissingObjectError, Store
from tasks.combine.stage import COMBINE
from tasks.distill.stage import DISTILL
from tasks.ingest.stage import INGEST
from tasks.label.stage import LABEL
from tasks.pipeline.graph import Step
from tasks.planning.dry_run import CACHED, dry_run
from tasks.spec import Spec

MOST_LOOKS = 50
"""Earlier states of the corpora that are looked at; beyond that a run trains."""


@dataclass(frozen=True)
class Decision:
    """What a run does after the ingest.

    Attributes:
        upto: the last stage that it runs.
        new: images stored since the last training; None: nothing was trained on an earlier state.
        why: for people.
        found: manifests, by title, that stand in for steps that do not run: the teachers of the last training.
    """

    upto: str
    new: int | None
    why: str
    found: Mapping[str, Manifest] = field(default_factory=dict)


def decide(spec: Spec, store: Store, steps: Sequence[Step], ingested: Sequence[Manifest], upto: str) -> Decision:
    """Decide after the ingests of a run.

    Args:
        steps: of the run, up to `upto`.
        ingested: manifests of its ingests, in the order of `steps`.
        upto: the last stage that was asked for.
    """
    students = [step for step in steps if step.stage is DISTILL]
    if not students:
        return Decision(upto, None, f"asked to end with {upto}")
    for before in _earlier(store, ingested):
        states = dry_run(spec, store, steps, before)
        if all(states[step.title].state == CACHED for step in students):
            break
    else:
        return Decision(upto, None, "no student of this spec was trained before")
    new = _stored(ingested) - _stored(before)
    if [one.key for one in before] == [one.key for one in ingested]:
        return Decision(upto, 0, "nothing is new since the last training")
    if new >= spec.retrain.least_new:
        return Decision(upto, new, f"{new} images are new since the last training")
    few = f"{new} images are new since the last training, retrain.least_new asks for {spec.retrain.least_new}"
    labels = [step for step in steps if step.stage is LABEL]
    # Trained on more images they would be other teachers; these have labelled what is there.
    teachers = {one for step in labels for one in _ancestors(step) if one.stage not in (INGEST, COMBINE)}
    found = {step.title: manifest for step in teachers if (manifest := states[step.title].manifest) is not None}
    if len(found) < len(teachers):
        return Decision(INGEST.name, new, f"{few}: they are ingested; what labelled the others is lost")
    return Decision(LABEL.name, new, f"{few}: they are ingested and labelled, nothing is trained", found)


def _ancestors(step: Step) -> set[Step]:
    """All that a step waits for, and what that waits for."""
    direct = set(step.waits_for)
    return direct.union(*map(_ancestors, direct))


def _stored(ingested: Sequence[Manifest]) -> int:
    return sum(output.samples for one in ingested for output in one.outputs_where(kind="shard"))


def _earlier(store: Store, ingested: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """The state of the corpora and those before it, the largest first; at most MOST_LOOKS."""
    heap = [(-_stored(ingested), 0, list(ingested))]
    seen = {tuple(one.key for one in ingested)}
    for number in range(1, MOST_LOOKS + 1):
        if not heap:
            return
        _, _, state = heapq.heappop(heap)
        yield state
        for place, one in enumerate(state):
            parent = _parent(store, one)
            if parent is None:
                continue
            earlier = [*state[:place], parent, *state[place + 1 :]]
            keys = tuple(each.key for each in earlier)
            if keys not in seen:
                seen.add(keys)
                heapq.heappush(heap, (-_stored(earlier), number * len(state) + place, earlier))


def _parent(store: Store, manifest: Manifest) -> Manifest | None:
    """The ingest that one went on from; None: there is none, or gc removed it."""
    key = manifest.facts.get("parent")
    if not key:
        return None
    name = manifest_name(manifest.stage, key)
    try:
        return Manifest.from_bytes(store.get(name), name)
    except MissingObjectError:
        return None
