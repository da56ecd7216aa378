"""What of a run is cached already: every step is bound to its inputs and looked up, nothing is written or started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from infra.compute.cluster import Cluster
from infra.errors import TransientError
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.pipeline.context import Context
from tasks.pipeline.graph import Step
from tasks.spec import Spec

CACHED, PARTLY, TO_DO = "cached", "partly", "to do"


@dataclass(frozen=True)
class StepState:
    """How much of a step is there."""

    state: str  # cached, partly or to do
    done: int = 0  # units, of those that have any
    total: int = 0
    said: tuple[str, ...] = ()  # what a cached report says first
    best: Mapping[str, Any] = field(default_factory=dict)  # of a cached training: figures of the weights it kept
    manifest: Manifest | None = None  # of a cached step
    key: str = ""  # of a step that is not cached, where all that it waits for is


def dry_run(
    spec: Spec, store: Store, steps: Sequence[Step], ingested: Sequence[Manifest | None]
) -> dict[str, StepState]:
    """State of every step by its title, in the order of the line.

    Args:
        steps: of the line; see `flows/line.py`.
        ingested: manifests of the ingests, in order, where they are cached; without one all that waits for it is
            still to do.

    Raises:
        UsageError: as the step would, for instance when weights are not there.
    """
    context = Context(cast(Store, _ReadOnly(store)), _NoCluster(spec.run.cluster), spec.run)
    found: dict[Step, Manifest] = {}
    states: dict[str, StepState] = {}
    known = iter(ingested)
    for step in steps:
        if not step.waits_for:
            manifest = next(known)
            state = StepState(CACHED if manifest is not None else TO_DO, manifest=manifest)
        elif all(before in found for before in step.waits_for):
            manifest, state = _look_up(step, context, spec, found)
        else:
            manifest, state = None, StepState(TO_DO)
        states[step.title] = state
        if manifest is not None:
            found[step] = manifest
    return states


def _look_up(
    step: Step, context: Context, spec: Spec, found: dict[Step, Manifest]
) -> tuple[Manifest | None, StepState]:
    inputs = {
        name: found[given] if isinstance(given, Step) else [found[one] for one in given]
        for name, given in step.inputs.items()
    }
    try:
        work = step.stage.bind(context, spec, **inputs, **step.parameters)
        manifest = work.lookup()
        if manifest is not None:
            said, best = tuple(manifest.facts.get("headline", ())), manifest.facts.get("best") or {}
            return manifest, StepState(CACHED, said=said, best=best, manifest=manifest)
        done, total = work.missing()
        return None, StepState(PARTLY if done else TO_DO, done, total, key=work.key)
    # A registry that is down says nothing of what the store has.
    except (WouldWorkError, TransientError):
        return None, StepState(TO_DO)


class WouldWorkError(Exception):
    """A step wanted to write or to compute: it is not cached."""


class _ReadOnly:
    """A store that can be read; whatever would change it raises WouldWorkError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "put_file", "put_new", "delete", "private", "sweep"):
            return self._refuse
        return getattr(self._store, name)

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        raise WouldWorkError("plan writes nothing")


class _NoCluster(Cluster):
    """A cluster that never starts."""

    @property
    def client(self) -> Any:
        raise WouldWorkError("plan starts no worker")
