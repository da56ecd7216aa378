"""Units of a teacher's labelling: all of them, those that are in the store, and jobs for those that are missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from infra.digest import digest_of, unit_key
from infra.storage.manifest import Manifest, Output, Quarantined
from infra.storage.stage_cache import Hit, StageCache, UnitRecord
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Corpus, Shard
from tasks.label.job import STAGE, VERSION, TeacherRequest, label_key
from tasks.spec import ViewsSection
from tasks.teachers.teacher import TeacherModel


@dataclass(frozen=True)
class LabelUnit:
    """One view of one shard."""

    number: int
    shard: Shard
    view: int
    key: str


@dataclass
class TeacherUnits:
    """One teacher's labelling of a corpus: its key, its units and what is known of each.

    Attributes:
        section: enters the key.
        folds: fold of every row of the training shards, by shard number; empty without fold teachers.
        count: random views of training shards.
        val_count: random views of validation shards.
        done: by key of a unit, its soft-label file.
        facts: by key of a unit, of its record.
        quarantine: by key of a unit, samples kept out.
        made: keys of the units that were made in this run.
        samples: views of images in the units that were made in this run.
    """

    corpus: Corpus
    teacher: TeacherModel
    recipe: ViewRecipe
    section: dict[str, Any]
    key: str
    folds: dict[int, np.ndarray]
    count: int
    val_count: int = 0
    done: dict[str, Output] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantine: dict[str, tuple[Quarantined, ...]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    samples: int = 0

    @cached_property
    def units(self) -> list[LabelUnit]:
        """All units: the plain view of every shard, the random views of training and validation shards."""
        random = {"train": self.count, "val": self.val_count}
        return [
            LabelUnit(number, shard, view, label_key(shard.id, self.teacher, self.recipe, view, self.folds.get(number)))
            for number, shard in enumerate(self.corpus.shards)
            for view in range(1 + random.get(shard.split, 0))
        ]

    @property
    def pending(self) -> list[LabelUnit]:
        """Units of which nothing is known to be in the store; what several splits of a shard share, once."""
        return list({unit.key: unit for unit in self.units if unit.key not in self.done}.values())

    def add(self, record: UnitRecord, *, made: bool = True) -> None:
        """Take a unit's record, made in this run or found."""
        self.done[record.key] = record.outputs[0]
        self.facts[record.key] = record.facts
        if record.quarantine:
            self.quarantine[record.key] = record.quarantine
        if made:
            self.made.add(record.key)
            self.samples += record.outputs[0].samples

    def copy_from(self, other: TeacherUnits) -> None:
        """Take the pending units that another name of the same network has."""
        for unit in self.pending:
            if unit.key in other.done:
                self.done[unit.key] = other.done[unit.key]
                self.facts[unit.key] = other.facts[unit.key]
                if unit.key in other.quarantine:
                    self.quarantine[unit.key] = other.quarantine[unit.key]

    def kept_out(self) -> dict[str, str]:
        """Samples that had to be kept out, with the reason.

        Those of earlier runs count too: otherwise a run that spent its budget would pass when it is started again.
        """
        return {q.source: q.reason for found in self.quarantine.values() for q in found}

    def says_nothing(self) -> bool:
        """Whether every unit of the training images is done, and no row of them is valid."""
        outputs = [self.done.get(unit.key) for unit in self.units if unit.shard.split == "train"]
        return bool(outputs) and all(o is not None and o.meta["invalid"] == o.samples for o in outputs)

    def manifest(self) -> Manifest:
        """The commit point; every unit is done."""
        outputs = [self._described(self.done[unit.key], unit) for unit in self.units]
        kept_out = {q.source: q for unit in self.units for q in self.quarantine.get(unit.key, ())}
        engines = {digest_of(fact): fact for unit in self.units if (fact := self.facts.get(unit.key, {}).get("engine"))}
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

    def _described(self, output: Output, unit: LabelUnit) -> Output:
        # Number, split and name are those of the current corpus and spec; the unit is the same whatever they are.
        meta: dict[str, Any] = {
            "kind": "soft",
            "shard": unit.number,
            "split": unit.shard.split,
            "view": unit.view,
            "teacher": self.teacher.name,
            "invalid": output.meta["invalid"],
        }
        return output.model_copy(update={"meta": meta})


def teacher_units(
    corpus: Corpus, teacher: TeacherModel, views: ViewsSection, folds: dict[int, np.ndarray], val_count: int = 0
) -> TeacherUnits:
    """A teacher's labelling before anything of it is looked up.

    Args:
        views: resolved for the corpus's kind of image.
        folds: per training shard, see `tasks.label.job.label_key`; empty without fold teachers.
        val_count: random views of validation shards, for `select`.
    """
    section: dict[str, Any] = {
        "teacher": teacher.name,
        "corpus": corpus.title,
        "model": teacher.identity(),
        "views": views.identity(),
        "splits": [shard.split for shard in corpus.shards],
    }
    if folds:
        section["folds"] = digest_of([folds[number].tolist() for number in sorted(folds)])
    if val_count:
        section["val_views"] = val_count
    inputs = [shard.id for shard in corpus.shards]
    key = unit_key(STAGE, VERSION, inputs=inputs, section=section, weights=teacher.weight_ids)
    recipe = ViewRecipe.from_values(views.model_dump())
    return TeacherUnits(corpus, teacher, recipe, section, key, folds, views.count, val_count)


def look_up_records(own: TeacherUnits, cache: StageCache, *, verify: bool, retry_quarantined: bool) -> None:
    """Take what earlier runs left in the store; writes nothing.

    Args:
        retry_quarantined: units with samples kept out stay pending.
    """
    for record in cache.each_recorded(STAGE, (unit.key for unit in own.pending), verify=verify):
        own.add(record, made=False)
    hit = cache.lookup(STAGE, own.key, verify=verify)
    if hit is not None:
        _take_outputs(own, hit)
    if retry_quarantined:
        for key in own.quarantine:
            del own.done[key]
        own.quarantine.clear()


def _take_outputs(own: TeacherUnits, hit: Hit) -> None:
    """Outputs whose record is lost count through their manifest; the engine is then the first that it names."""
    gone = {output.name for output in hit.missing}
    engines = hit.manifest.facts.get("engines") or [None]
    for output in hit.manifest.outputs:
        if output.name not in gone and output.unit not in own.done:
            own.done[output.unit] = output
            own.facts[output.unit] = {"engine": engines[0]}


def shard_requests(
    pending: Sequence[tuple[TeacherUnits, list[LabelUnit]]], together: int, kept: Collection[str] = ()
) -> Iterator[tuple[Shard, tuple[TeacherRequest, ...]]]:
    """Shards with the views that each teacher is to predict of them.

    Args:
        together: views of one shard that share a job, and so its decoding.
        kept: keys of units of which some rows are known.
    """
    by_shard: dict[int, dict[int, list[tuple[int, LabelUnit]]]] = {}
    for position, (_, units) in enumerate(pending):
        for unit in units:
            by_shard.setdefault(unit.number, {}).setdefault(unit.view, []).append((position, unit))
    for number in sorted(by_shard):
        views = sorted(by_shard[number])
        for start in range(0, len(views), together):
            chosen: dict[int, list[LabelUnit]] = {}
            for view in views[start : start + together]:
                for position, unit in by_shard[number][view]:
                    chosen.setdefault(position, []).append(unit)
            requests = tuple(_request(pending[position][0], units, kept) for position, units in sorted(chosen.items()))
            yield next(iter(chosen.values()))[0].shard, requests


def _request(own: TeacherUnits, units: Sequence[LabelUnit], kept: Collection[str]) -> TeacherRequest:
    views = tuple((unit.view, unit.key) for unit in units)
    known = tuple(unit.key for unit in units if unit.key in kept)
    return TeacherRequest(own.teacher, views, own.folds.get(units[0].number), known)
