"""Which engine a teacher runs on: remembered in the store for each (teacher, kind of machine), so that of many workers
one measures and the others follow.

At the start of a run one worker times the teacher in float32 and sees whether measuring other engines would save time.
If so it leaves a choice that is not settled: labelling begins with that engine while one worker measures, and each
worker goes over to what was selected before its next shard. What was learnt of speed is remembered on the machine, for
runs with other teachers and in other stores.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from infra.digest import canonical_json, digest_of
from infra.machine import machine_kind
from infra.storage.store import MissingObjectError, Store
from models.engines.benchmark import EngineChoice, ImageSample
from models.engines.engine import Engine, Network
from models.engines.experience import Experience
from models.engines.opening import open_engine
from models.engines.selection import Selected, Wanted, first_engine, select_engine, worth_measuring
from tasks.label.engine_memory import remember_engines, remembered_engines
from tasks.label.job import InferenceSettings
from tasks.teachers.teacher import TeacherModel

ENGINES = "engines/"
"""Folder of the store where choices are remembered; hints that any run may make again."""


@dataclass(frozen=True)
class Remembered:
    """A choice as the store has it.

    Attributes:
        settled: nobody is measuring at the moment.
    """

    choice: EngineChoice
    settled: bool


@dataclass
class EngineChoices:
    """The choice of an engine for one network of a teacher.

    Args:
        sample: gives views to measure engines with.
    """

    teacher: TeacherModel
    network: Network
    inference: InferenceSettings
    store: Store
    sample: Callable[[], ImageSample]

    def start(self) -> tuple[EngineChoice, Engine, bool]:
        """The engine to begin with, open, and whether that is settled; leaves the choice in the store.

        Raises:
            EngineError: the engine of the spec cannot run the network.
        """
        wanted, experience = self._wanted, self._experience()
        known = remembered(self.store, self._name)
        if known is not None and not worth_measuring(self.network, known.choice, wanted, experience):
            # It may not be settled where an earlier run ended while it measured.
            return self._begun(known.choice, self._open(known.choice), settled=True)
        if known is not None and wanted.workers > 1:
            return self._begun(known.choice, self._open(known.choice), settled=False)
        first = None if known is not None else first_engine(self.network, self.sample(), wanted, experience)
        if first is None or (first.worth_measuring and wanted.workers == 1):
            return self.settle()
        return self._begun(first.choice, first.engine, settled=not first.worth_measuring)

    def settle(self) -> tuple[EngineChoice, Engine, bool]:
        """Measure, and leave what was selected in the store: the choice and its engine, open.

        Raises:
            EngineError: the engine of the spec cannot run the network.
        """
        before = remembered(self.store, self._name)
        selected = select_engine(self.network, self.sample(), self._wanted, self._experience())
        self._learn(selected)
        # Another worker may have been faster; two engines in one run would move low bits between its shards.
        known = remembered(self.store, self._name)
        if known is not None and known.settled and known != before:
            return known.choice, self._open(known.choice), True
        return self._begun(selected.choice, selected.engine, settled=True)

    def follow(self) -> tuple[EngineChoice, Engine, bool]:
        """What another worker left in the store; without it this machine is of another kind, and measures.

        Raises:
            EngineError: the engine of the spec cannot run the network.
        """
        known = remembered(self.store, self._name)
        if known is None:
            return self.settle()
        return known.choice, self._open(known.choice), known.settled

    def newly_settled(self) -> EngineChoice | None:
        """The choice, once it is settled."""
        known = remembered(self.store, self._name)
        return known.choice if known is not None and known.settled else None

    @property
    def _wanted(self) -> Wanted:
        how = self.inference
        return Wanted(
            device=how.device,
            threads=how.threads,
            passes=how.passes,
            workers=how.workers,
            engine=how.engine,
            precision=how.precision,
            batch=how.batch,
            many=how.many,
            max_divergence=how.max_divergence,
        )

    @property
    def _name(self) -> str:
        how = self.inference
        wanted = [how.engine, how.precision, how.batch, how.max_divergence, how.many]
        kind = machine_kind(how.device, how.threads)
        # Fold teachers share the architecture: one of them measures for all.
        return f"{ENGINES}{self.teacher.id[:16]}-{digest_of([kind, wanted])[:16]}.json"

    def _experience(self) -> Experience:
        how = self.inference
        return Experience(architecture(self.teacher), remembered_engines(device=how.device, threads=how.threads))

    def _learn(self, selected: Selected) -> None:
        how = self.inference
        if self.network.call is None:
            remember_engines(architecture(self.teacher), selected.measured, device=how.device, threads=how.threads)

    def _begun(self, choice: EngineChoice, engine: Engine, *, settled: bool) -> tuple[EngineChoice, Engine, bool]:
        self._put(choice, settled=settled)
        return choice, engine, settled

    def _open(self, choice: EngineChoice) -> Engine:
        how = self.inference
        return open_engine(self.network, choice.engine, device=how.device, threads=how.threads)

    def _put(self, choice: EngineChoice, *, settled: bool) -> None:
        how = self.inference
        record = {
            "kind": machine_kind(how.device, how.threads),
            "passes": how.passes,
            "choice": choice.to_json(),
            "settled": settled,
        }
        self.store.put(self._name, canonical_json(record))


def architecture(teacher: TeacherModel) -> str:
    """Name of what decides a teacher's speed: its network without weights and classes; a file is its own network."""
    identity = teacher.identity()
    shape = {name: identity[name] for name in ("kind", "model", "options", "size", "features")}
    return f"{teacher.model or teacher.kind} {digest_of([shape, '' if teacher.model else teacher.weights.id])[:12]}"


def remembered(store: Store, name: str) -> Remembered | None:
    """A choice that a worker left; None where there is none that can be read."""
    try:
        stored = json.loads(store.get(name))
        return Remembered(EngineChoice.from_json(stored["choice"]), bool(stored["settled"]))
    except MissingObjectError:
        return None
    except (ValueError, KeyError, TypeError):
        # A hint that cannot be read is no hint; the choice is made again over it.
        return None
