"""The stage drift: the images of a run, and predictions in service, against what the champion learned from.

It asks the registry who serves now, and changes nothing there. What it finds holds a promotion in the gate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from infra.digest import canonical_json, unit_key
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.drift.compare import ImageSignals
from tasks.drift.images import training_of
from tasks.drift.page import page_of
from tasks.drift.production import log_digest, production_signals, read_log
from tasks.drift.reference import Reference, answers_of, compared_version, reference_of
from tasks.drift.signals import Signal, decided
from tasks.gate.drifted import DRIFT as DRIFTED
from tasks.gate.drifted import NONE, UNKNOWN
from tasks.gate.opponent import Champion, best_student, champion_of
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec

STAGE, VERSION = "drift", 1


class DriftWork(StageWork):
    """Compare the corpus of a run with that of the champion.

    The output of kind `drift` is a JSON document with the facts. These are
    - `verdict`: none, drift, or unknown where there is no champion or its data are gone; `why`, in one sentence;
    - `signals`: [{name, key, value, limit, drifted, p, new, old, note}], see `tasks.drift.signals`;
    - `champion`: {name, version} that it was compared with, or None; `new`: training images that are new since then.

    The key is of both corpora, of this run's soft labels, of the version that is compared with, and of the log's bytes.

    Args:
        report: manifest of evaluate, whose best student the gate judges.
        labels: manifests of the teachers' soft labels.

    Raises:
        UsageError: the report has no student, or the log of predictions is not as `tasks.drift.production` asks.
        TransientError: MLflow does not say who the champion is.
        CorruptError: a stored image or soft-label file is damaged.
        CancelledError: the run was asked to stop.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self, context: Context, corpus: Corpus, report: Manifest, labels: Sequence[Manifest], spec: Spec
    ) -> None:
        super().__init__(context)
        self.corpus, self.labels, self.spec, self.section = corpus, list(labels), spec, spec.drift
        self.student = best_student(report)
        self.name = spec.register_.name or spec.name

    @cached_property
    def champion(self) -> Champion | None:
        """Who serves now."""
        return champion_of(self.name, self.student)

    @cached_property
    def against(self) -> tuple[str, dict[str, str]] | None:
        """Number and tags of the version that the images are compared with."""
        return None if self.champion is None else compared_version(self.champion)

    @cached_property
    def log(self) -> str | None:
        """Digest of the log of predictions; None where none is named, or nobody serves."""
        place = self.section.predictions
        return None if place is None or self.champion is None else log_digest(place, self.store)

    @cached_property
    def key(self) -> str:
        against = "" if self.champion is None or self.against is None else f"{self.name}/{self.champion.against}"
        log = None if self.champion is None or self.log is None else [self.champion.version, self.log]
        section = {**self.section.identity(), "against": against, **({"log": log} if log else {})}
        return unit_key(
            STAGE, VERSION, inputs=[self.corpus.manifest.key, *(one.key for one in self.labels)], section=section
        )

    def count(self, manifest: Manifest) -> int:
        return 1

    def says(self, manifest: Manifest) -> str:
        return f"{manifest.facts['verdict']}: {manifest.facts['why']}"

    def make(self) -> Made:
        facts = self._facts()
        data = canonical_json(facts)
        output = self.cache.put_object(
            f"reports/{self.corpus.title}/drift-{self.key[:12]}-{{sha8}}.json", data, meta={"kind": "drift"}
        )
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[self.corpus.manifest.digest, *(one.key for one in self.labels)],
            section=self.section.identity(),
            outputs=[output],
            facts=facts,
        )
        return Made(manifest, made=1, total=1)

    def _facts(self) -> dict[str, Any]:
        if self.champion is None:
            return _told(UNKNOWN, f"{self.name} has no champion to compare with", [], None, None)
        signals: list[Signal] = []
        new, notes, reference = None, [], None
        if self.against is None:
            notes.append(f"version {self.champion.version} is this student, and nobody served before it")
        else:
            reference = reference_of(self.store, *self.against)
            if reference.corpus is None:
                notes.append(f"the store does not have the images that version {reference.version} learned from")
            else:
                new, found = self._images(reference.corpus)
                signals += found
                if new < self.section.least:
                    notes.append(_few(new, reference.version))
        known = bool(reference and reference.corpus)
        if self.log is not None:
            logged, note = self._logged()
            signals += logged
            known = known or bool(logged)
            notes += [note] * bool(note)
        who = None if self.against is None else {"name": self.name, "version": self.against[0]}
        rows = decided(signals, self.section.limits.model_dump(), self.section.alpha)
        return _verdict(rows, known, notes, who, new)

    def _images(self, before: Corpus) -> tuple[int, list[Signal]]:
        """New training images, and the signals of this run's corpus."""
        if before.manifest.key == self.corpus.manifest.key:
            return 0, []
        found = ImageSignals(self.corpus, before, self.labels, self.section.least, self.context.stop)
        return found.new, list(found.signals())

    def _logged(self) -> tuple[list[Signal], str]:
        """Signals of the log of predictions, against the champion's own; or why there are none."""
        assert self.champion is not None
        assert self.section.predictions is not None
        tags = dict(self.champion.tags)
        answers = answers_of(self.store, tags)
        if answers is None:
            version = self.champion.version
            return [], f"the store does not have the evaluation of version {version}, so its log stands alone"
        many = answers.decided is None
        log = read_log(self.section.predictions, self.store, answers.classes, many=many)
        sites = _sites(reference_of(self.store, self.champion.version, tags))
        return list(production_signals(log, answers, sites, self.section.least, many=many)), ""

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        facts = result.manifest.facts
        text = f"drift: {facts['verdict']}; {facts['why']}"
        page = page_of(self.name, facts, hold=self.section.hold)
        return [Artifact(key=f"drift-{slug(self.corpus.title)}", description=text, content=page)]


def _sites(reference: Reference) -> np.ndarray | None:
    return None if reference.corpus is None else training_of(reference.corpus).attributes["site"]


def _few(new: int, version: str) -> str:
    if not new:
        return f"no training image is new since version {version}"
    return f"{new} training images are new since version {version}, too few to judge (drift.least)"


def _verdict(
    rows: list[dict[str, Any]], known: bool, notes: Sequence[str], who: dict[str, str] | None, new: int | None
) -> dict[str, Any]:
    drifted = [row for row in rows if row["drifted"]]
    against = f" against version {who['version']}" if who else ""
    if drifted:
        parts = [f"{row['name']} {row['value']:.3g} (limit {row['limit']:g})" for row in drifted]
        return _told(DRIFTED, f"{'; '.join(parts)}{against}", rows, who, new)
    if not known:
        return _told(UNKNOWN, "; ".join(notes), rows, who, new)
    tested = sum(row["value"] is not None for row in rows)
    quiet = [f"{tested} signals within their limits or within chance{against}"] * bool(tested)
    return _told(NONE, "; ".join([*quiet, *notes]), rows, who, new)


def _told(
    verdict: str, why: str, rows: list[dict[str, Any]], who: Mapping[str, str] | None, new: int | None
) -> dict[str, Any]:
    facts = {
        "verdict": verdict,
        "why": why,
        "signals": rows,
        "champion": None if who is None else dict(who),
        "new": new,
    }
    # As a manifest that is read again has them.
    return dict(json.loads(canonical_json(facts)))


def drift(context: Context, corpus: Corpus, report: Manifest, labels: Sequence[Manifest], spec: Spec) -> StageResult:
    """Run the stage; see `DriftWork`."""
    return run_stage(DriftWork(context, corpus, report, labels, spec))


def _bind(context: Context, spec: Spec, *, corpus: Manifest, report: Manifest, labels: Sequence[Manifest]) -> DriftWork:
    return DriftWork(context, Corpus(context.store, corpus), report, labels, spec)


DRIFT = Stage(STAGE, _bind, folders=("reports/",))
