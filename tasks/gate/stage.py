"""The stage gate: rules on the student that the report would register, before anything in the registry moves.

It asks the registry who serves now, and changes nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.data.decisions import operating_point
from tasks.gate.asked import asked_of, refuse_silent_changes
from tasks.gate.budgets import rule_on_export
from tasks.gate.comparison import Tested, against_champion, tested
from tasks.gate.drifted import DRIFT, UNKNOWN, drifted_signals, rule_on_drift
from tasks.gate.opponent import Champion, best_student, champion_of
from tasks.gate.recalls import with_decided_recalls
from tasks.gate.rules import FAILED, PASSED, Ruling, overall, rule_on_report
from tasks.gate.screening import rule_on_screening
from tasks.gate.test_set import Changes, changes_since, digest_of_test, looks_before
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec

STAGE, VERSION = "gate", 2


class GateWork(StageWork):
    """Apply the rules of `gate:` to the best student of a report, and compare it with the champion.

    The manifest has no outputs; its facts are
    - `student`: key of its training; `arm`;
    - `verdict`: passed, failed or not judged; `why`: what did not pass, in one line;
    - `rules`: what each rule says (`tasks.gate.rules.Ruling`);
    - `operating_point`: where something is referred (`tasks.data.decisions.operating_point`);
    - `asked`: {digest, rules, revision}, what the verdict depends on (`tasks.gate.asked`);
    - `test`: {digest, images, patients, looks, changes}: of the labelled test images; `looks`, how many other students
      were judged on them before; `changes` since the champion was judged, None where that is not known;
    - `champion`: {name, version, same, against, ...} as `tasks.gate.comparison.against_champion` tells it, or None;
    - `drift`: {verdict, why, signals}, names of those that drifted; where stage drift looked.

    The key is of the champion that the student is compared with: another one is another question. Drift counts by the
    names of its signals: figures of a log that grows nightly would make a verdict a night.

    Raises:
        UsageError: the report has no student.
        SpecError: the gate or its test set changed in silence (`tasks.gate.asked`).
        CorruptError: its table of predictions is damaged.
        TransientError: MLflow does not say who the champion is.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        corpus: Corpus,
        report: Manifest,
        spec: Spec,
        export: Manifest | None = None,
        drift: Manifest | None = None,
    ) -> None:
        super().__init__(context)
        self.export, self.drift = export, drift
        self.corpus, self.report, self.spec, self.section = corpus, report, spec, spec.gate
        self.student = best_student(report)
        self.name = spec.register_.name or spec.name

    @cached_property
    def champion(self) -> Champion | None:
        """Who serves now."""
        return champion_of(self.name, self.student)

    @cached_property
    def key(self) -> str:
        against = "" if self.champion is None else self.champion.against
        inputs = [self.report.key, *([self.export.key] if self.export else [])]
        section = {**self.section.identity(), **({"against": f"{self.name}/{against}"} if against else {})}
        if self._drifted is not None:
            section["drift"] = {"signals": drifted_signals(self._drifted.facts), "hold": self.spec.drift.hold}
        return unit_key(STAGE, VERSION, inputs=inputs, section=section)

    @property
    def _same(self) -> bool:
        return self.champion is not None and self.champion.same

    @property
    def _drifted(self) -> Manifest | None:
        """The drift that the verdict depends on; a student that serves already is not held."""
        return None if self.drift is None or self._same or self.drift.facts["verdict"] != DRIFT else self.drift

    def count(self, manifest: Manifest) -> int:
        return 1

    def says(self, manifest: Manifest) -> str:
        return manifest.facts["verdict"] + (f": {why}" if (why := manifest.facts["why"]) else "")

    def make(self) -> Made:
        facts, best = self.report.facts, self.report.facts["best"]
        found = tested(self.corpus, self.report)
        changes = self._changes(found)
        asked = asked_of(self.spec, facts)
        if self.champion is not None:
            refuse_silent_changes(asked, self.champion, changes)
        point = operating_point(facts, best["arm"], best["seed"])
        rulings: list[Ruling] = []
        if self.section.enabled:
            rulings = rule_on_report(with_decided_recalls(facts, found), self.section)
            if "screening" in facts:
                rulings += rule_on_screening(point, self.section)
            rulings += rule_on_export(self.export.facts, self.section) if self.export else []
        compared, told = self._compared(found)
        rulings += compared
        if self.drift is not None and self.section.enabled:
            rulings += rule_on_drift(self.drift.facts, self.spec.drift, same=self._same)
        verdict = overall(rulings)
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[
                self.report.digest,
                self.corpus.manifest.digest,
                *([self.export.key] if self.export else []),
                *([self.drift.digest] if self.drift else []),
            ],
            section=self.section.identity(),
            outputs=[],
            facts={
                "student": self.student,
                "arm": best["arm"],
                "verdict": verdict,
                "rules": [ruling.to_json() for ruling in rulings],
                "operating_point": point,
                "asked": asked,
                "test": self._test(found, changes),
                "champion": told,
                "why": _why(rulings, verdict),
                **self._drift(),
            },
        )
        if verdict != PASSED:
            self.context.message(f"the gate is closed: {manifest.facts['why']}")
        return Made(manifest, made=1, total=1)

    def _drift(self) -> dict[str, Any]:
        if self.drift is None or self.drift.facts["verdict"] == UNKNOWN:
            return {}
        facts = self.drift.facts
        return {"drift": {"verdict": facts["verdict"], "why": facts["why"], "signals": drifted_signals(facts)}}

    def _changes(self, found: Tested) -> Changes | None:
        """How the test set differs from the champion's."""
        if self.champion is None:
            return None
        titles = [corpus.title for corpus in self.spec.each_corpus]
        return changes_since(self.corpus, found.truth, self.champion.version, self.champion.tags, titles)

    def _test(self, found: Tested, changes: Changes | None) -> dict[str, Any]:
        digest = digest_of_test(self.corpus, found.truth)
        return {
            "digest": digest,
            "images": len(found.truth),
            "patients": self.report.facts["patients"],
            "looks": looks_before(self.store, STAGE, digest, self.student),
            "changes": None if changes is None else changes.to_json(),
        }

    def _compared(self, found: Tested) -> tuple[list[Ruling], dict[str, Any] | None]:
        """The ruling on the comparison with the champion, if any, and what is told of it."""
        champion, margin = self.champion, self.section.margin
        if champion is None:
            return [], None
        who = {"name": self.name, "version": champion.version, "same": champion.same, "against": champion.against}
        if not self.section.enabled or margin is None:
            return [], {**who, "reason": "gate.margin is null" if self.section.enabled else "gate.enabled is false"}
        ruling, told = against_champion(
            self.context, champion, self.corpus, self.report, found, self.spec.each_corpus, margin
        )
        return [ruling], {**who, "margin": margin, **told}

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        facts = result.manifest.facts
        rows = facts["rules"] or [{"rule": "none", "verdict": PASSED, "figure": "", "asks": "gate.enabled is false"}]
        text = f"gate: {facts['verdict']}" + (f"; {facts['why']}" if facts["why"] else "")
        return [Artifact(key=f"gate-{slug(self.corpus.title)}", description=text, content=rows)]


def _why(rulings: Sequence[Ruling], verdict: str) -> str:
    """The rules that decided against the student, in one line; "" where it passed."""
    if verdict == PASSED:
        return ""
    wanted = FAILED if verdict == FAILED else verdict
    return " | ".join(ruling.text for ruling in rulings if ruling.verdict == wanted)


def judge(
    context: Context,
    corpus: Corpus,
    report: Manifest,
    spec: Spec,
    export: Manifest | None = None,
    drift: Manifest | None = None,
) -> StageResult:
    """Run the stage; see `GateWork`."""
    return run_stage(GateWork(context, corpus, report, spec, export, drift))


def _bind(
    context: Context,
    spec: Spec,
    *,
    corpus: Manifest,
    report: Manifest,
    export: Manifest,
    drift: Manifest | None = None,
) -> Any:
    return GateWork(context, Corpus(context.store, corpus), report, spec, export, drift)


GATE = Stage(STAGE, _bind)
