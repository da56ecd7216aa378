"""Which views of which shards a teacher owes, what of it is done, and jobs that share decoding between teachers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infra.digest import digest_of, unit_key
from infra.storage.manifest import Manifest, Output, Quarantined
from infra.storage.stage_cache import Hit, StageCache, UnitRecord
from models.augmentation.draws import Recipe
from tasks.data.corpus import Corpus, Shard
from tasks.label.job import STAGE, VERSION, Ask, label_key
from tasks.spec import ViewsSection
from tasks.teachers.model import TeacherModel


@dataclass(frozen=True)
class Unit:
    """One view of one shard."""

    number: int
    shard: Shard
    view: int
    key: str


@dataclass
class Owing:
    """One teacher's labelling of a corpus: its key, its units and their records so far."""

    corpus: Corpus
    teacher: TeacherModel
    recipe: Recipe
    section: dict[str, Any]
    key: str
    folds: dict[int, np.ndarray]
    count: int
    hit: Hit | None = None
    done: dict[str, Output] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantine: dict[str, tuple[Quarantined, ...]] = field(default_factory=dict)
    made: int = 0
    samples: int = 0  # of the units made now

    def take_from(self, other: Owing) -> None:
        """Take up units that a teacher of the same network and weights made."""
        for key in other.done.keys() - self.done.keys():
            self.done[key] = other.done[key]
            self.facts[key] = other.facts[key]
            if key in other.quarantine:
                self.quarantine[key] = other.quarantine[key]

    @property
    def whole(self) -> bool:
        """Whether a manifest was found with all that it names."""
        return self.hit is not None and self.hit.whole

    @property
    def total(self) -> int:
        """Number of units."""
        return sum(1 + (self.count if shard.split == "train" else 0) for shard in self.corpus.shards)

    def units(self) -> Iterator[Unit]:
        """All units: the plain view of every shard, the random views of training shards."""
        for number, shard in enumerate(self.corpus.shards):
            folds = self.folds.get(number)
            for view in range(1 + (self.count if shard.split == "train" else 0)):
                yield Unit(number, shard, view, label_key(shard.id, self.teacher, self.recipe, view, folds))

    def add(self, record: UnitRecord, *, made: bool = True) -> None:
        """Take up what a unit made."""
        self.done[record.key] = record.outputs[0]
        self.facts[record.key] = record.facts
        if record.quarantine:
            self.quarantine[record.key] = record.quarantine
        self.made += made
        self.samples += record.outputs[0].samples * made

    def manifest(self) -> Manifest:
        """The commit point; every unit is done."""
        units = list(self.units())
        outputs = [self._described(self.done[unit.key], unit) for unit in units]
        kept_out = {q.source: q for unit in units for q in self.quarantine.get(unit.key, ())}
        engines = {digest_of(fact): fact for unit in units if (fact := self.facts.get(unit.key, {}).get("engine"))}
        return Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[shard.id for shard in self.corpus.shards],
            section=self.section,
            outputs=outputs,
            quarantine=[kept_out[source] for source in sorted(kept_out)],
            facts={
                "teacher": self.teacher.name,
                "classes": self.teacher.num_classes,
                "weights": self.teacher.weights.id,
                "files": [ref.sha256 for ref in (self.teacher.weights, *self.teacher.folds)],
                "folds": len(self.teacher.folds),
                "rows": sum(output.samples for output in outputs),
                "invalid": sum(output.meta["invalid"] for output in outputs),
                "engines": [engines[name] for name in sorted(engines)],
            },
        )

    def _described(self, output: Output, unit: Unit) -> Output:
        # Number, split and name are the corpus's and the spec's of today; the unit is the same whatever they are.
        meta: dict[str, Any] = {
            "kind": "soft",
            "shard": unit.number,
            "split": unit.shard.split,
            "view": unit.view,
            "teacher": self.teacher.name,
            "invalid": output.meta["invalid"],
        }
        return output.model_copy(update={"meta": meta})


def owing(corpus: Corpus, teacher: TeacherModel, views: ViewsSection, folds: dict[int, np.ndarray]) -> Owing:
    """A teacher's labelling before anything of it is looked up.

    Args:
        views: resolved for the corpus's kind of image.
        folds: per training shard, see `tasks.label.job.label_key`; empty without fold teachers.
    """
    section = {
        "teacher": teacher.name,
        "corpus": corpus.title,
        "model": teacher.identity(),
        "views": views.identity(),
        "splits": [shard.split for shard in corpus.shards],
    }
    if folds:
        section["folds"] = digest_of([folds[number].tolist() for number in sorted(folds)])
    inputs = [shard.id for shard in corpus.shards]
    key = unit_key(STAGE, VERSION, inputs=inputs, section=section, weights=teacher.weight_ids)
    recipe = Recipe.from_values(views.model_dump())
    return Owing(corpus, teacher, recipe, section, key, folds, views.count)


def take_up(own: Owing, cache: StageCache, *, verify: bool, retry_quarantined: bool) -> list[Unit]:
    """Look up what earlier runs made; returns the units that are owed.

    Args:
        retry_quarantined: units with samples kept out are owed again.
    """
    own.hit = cache.lookup(STAGE, own.key, verify=verify)
    if own.whole and not (retry_quarantined and own.hit and own.hit.manifest.quarantine):
        return []
    units = list(own.units())
    for record in cache.each_recorded(STAGE, (unit.key for unit in units), verify=verify):
        own.add(record, made=False)
    if own.hit is not None:
        _take_outputs(own, own.hit)
    if retry_quarantined:
        for key in own.quarantine:
            del own.done[key]
        own.quarantine.clear()
        own.hit = None
    return [unit for unit in units if unit.key not in own.done]


def _take_outputs(own: Owing, hit: Hit) -> None:
    """Outputs whose record is lost count through their manifest; what it says of engines then goes with them."""
    gone = {output.name for output in hit.missing}
    engines = hit.manifest.facts.get("engines") or [None]
    for output in hit.manifest.outputs:
        if output.name not in gone and output.unit not in own.done:
            own.done[output.unit] = output
            own.facts[output.unit] = {"engine": engines[0]}


def jobs_of(owed: Sequence[tuple[Owing, list[Unit]]], together: int) -> Iterator[tuple[Shard, tuple[Ask, ...]]]:
    """Shards with what each teacher is asked of them.

    Args:
        together: views of one shard that share a job, and so its decoding.
    """
    by_shard: dict[int, dict[int, list[tuple[int, Unit]]]] = {}
    for who, (_, units) in enumerate(owed):
        for unit in units:
            by_shard.setdefault(unit.number, {}).setdefault(unit.view, []).append((who, unit))
    for number in sorted(by_shard):
        views = sorted(by_shard[number])
        for start in range(0, len(views), together):
            asked: dict[int, list[Unit]] = {}
            for view in views[start : start + together]:
                for who, unit in by_shard[number][view]:
                    asked.setdefault(who, []).append(unit)
            asks = tuple(_ask(owed[who][0], units) for who, units in sorted(asked.items()))
            yield next(iter(asked.values()))[0].shard, asks


def _ask(own: Owing, units: Sequence[Unit]) -> Ask:
    views = tuple((unit.view, unit.key) for unit in units)
    return Ask(own.teacher, views, own.folds.get(units[0].number))
