"""A teacher at work in this process: loaded once, on the engine that was measured to be fastest here.

Which engine that is, is remembered in the store for each (teacher, kind of machine), so that of many workers one
measures and the others follow. A choice that had no time to try everything is made again when there is more to do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.digest import canonical_json, digest_of
from infra.errors import UsageError
from infra.storage.store import MissingObjectError, Store
from models.engines import Choice, EngineError, Runner, choose, machine_kind, open_engine
from models.engines.network import Answer, Network
from tasks.data.weights import WeightsRef
from tasks.label.job import How
from tasks.teachers.model import TeacherModel
from tasks.teachers.network import load_network

ENGINES = "engines/"
"""Where choices are remembered; hints that any run may make again."""

MORE = 4
"""A choice that was cut short is made again when there is this many times as much to do."""

_LOADED: dict[tuple[str, str, How], Speaker] = {}
_LOADING = threading.Lock()


@dataclass
class Speaker:
    """One network of a teacher, ready to be asked."""

    size: int  # side of its input in pixels
    runner: Runner
    rate: float | None  # images a second as measured on this kind of machine
    told: str  # which engine was taken, and which faster ones were not and why
    engine: dict[str, Any]  # for records: engine, batch, precision and how far it agrees with float32

    def __call__(self, images: np.ndarray) -> Answer:
        """What it says of RGB uint8 [B, size, size, 3]."""
        return self.runner(images)


def speaker(
    teacher: TeacherModel, weights: WeightsRef, how: How, store: Store, sample: Callable[[int], np.ndarray]
) -> Speaker:
    """The speaker for some weights of a teacher, loaded now or before.

    Args:
        weights: the teacher's own or those of a fold.
        sample: gives views at a size, uint8 [N, size, size, 3], to measure with.

    Raises:
        UsageError: the network cannot be built, or the engine asked for cannot run it.
        CorruptError: the weights are not those that the run began with.
    """
    name = (digest_of([teacher.identity(), weights.id]), store.url, how)
    with _LOADING:
        known = _LOADED.get(name)
        if known is None:
            known = _LOADED[name] = _load(teacher, weights, how, store, sample)
        return known


def _load(
    teacher: TeacherModel, weights: WeightsRef, how: How, store: Store, sample: Callable[[int], np.ndarray]
) -> Speaker:
    network = load_network(teacher, weights, store)
    try:
        choice = _choice(teacher, network, how, store, sample)
        engine = open_engine(network, choice.engine, device=how.device, threads=how.threads)
    except EngineError as error:
        raise UsageError(f"teacher {teacher.name}: {error}") from error
    return Speaker(
        network.size, Runner(engine, choice.batch), choice.images_per_second, _told(choice), _fact(choice, how)
    )


def _choice(
    teacher: TeacherModel, network: Network, how: How, store: Store, sample: Callable[[int], np.ndarray]
) -> Choice:
    kind = machine_kind(how.device, how.threads)
    asked = [how.engine, how.precision, how.batch, how.min_agreement, how.max_error]
    # Fold teachers share the architecture: one of them measures for all.
    name = f"{ENGINES}{teacher.id[:16]}-{digest_of([kind, asked])[:16]}.json"
    known = _remembered(store, name, how.passes)
    if known is not None:
        return known
    choice = choose(
        network,
        sample(network.size),
        device=how.device,
        threads=how.threads,
        passes=how.passes,
        engine=how.engine,
        precision=how.precision,
        batch=how.batch,
        min_agreement=how.min_agreement,
        max_error=how.max_error,
    )
    # Somebody may have been faster; two engines in one run would move low bits between its shards.
    known = _remembered(store, name, how.passes)
    if known is not None:
        return known
    store.put(name, canonical_json({"kind": kind, "passes": how.passes, "choice": choice.to_json()}))
    return choice


def _remembered(store: Store, name: str, passes: int) -> Choice | None:
    try:
        told = json.loads(store.get(name))
        choice, before = Choice.from_json(told["choice"]), int(told["passes"])
    except MissingObjectError:
        return None
    except (ValueError, KeyError, TypeError):
        # A hint that cannot be read is no hint; the choice is made again over it.
        return None
    return None if choice.limited and passes > MORE * before else choice


def _fact(choice: Choice, how: How) -> dict[str, Any]:
    agreement = choice.agreement.to_json() if choice.agreement is not None else {}
    kind = machine_kind(how.device, how.threads)
    return {"engine": choice.engine, "batch": choice.batch, "kind": kind, **agreement}


def _told(choice: Choice) -> str:
    refused = [f"{row.engine}: {row.why_not}" for row in choice.tried if row.why_not and row.top1 is not None]
    return f"{choice.engine} in batches of {choice.batch}" + (f" (not {'; not '.join(refused)})" if refused else "")
