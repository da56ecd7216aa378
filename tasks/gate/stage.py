"""The stage gate: rules on the student that the report would register, before anything in the registry moves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.data.decisions import operating_point
from tasks.gate.budgets import rule_on_export
from tasks.gate.rules import FAILED, PASSED, Ruling, overall, rule_on_report
from tasks.gate.screening import rule_on_screening
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec

STAGE, VERSION = "gate", 1


class GateWork(StageWork):
    """Apply the rules of `gate:` to the best student of a report.

    The manifest has no outputs; its facts are {arm, verdict, rules, operating_point, why}: `verdict` is passed, failed
    or not judged, `rules` what each rule says (`tasks.gate.rules.Ruling`), `operating_point` the threshold of referral,
    where something is referred (`tasks.data.decisions.operating_point`), `why` what did not pass, in one line.

    Raises:
        UsageError: the report has no student.
        CorruptError: its table of predictions is damaged.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self, context: Context, corpus: Corpus, report: Manifest, spec: Spec, export: Manifest | None = None
    ) -> None:
        super().__init__(context)
        self.export = export
        self.corpus, self.report, self.spec, self.section = corpus, report, spec, spec.gate
        if report.facts["best"] is None:
            raise UsageError(f"report {report.key[:12]} has no student to register")

    @cached_property
    def key(self) -> str:
        inputs = [self.report.key, *([self.export.key] if self.export else [])]
        return unit_key(STAGE, VERSION, inputs=inputs, section=self.section.identity())

    def count(self, manifest: Manifest) -> int:
        return 1

    def says(self, manifest: Manifest) -> str:
        return manifest.facts["verdict"] + (f": {why}" if (why := manifest.facts["why"]) else "")

    def make(self) -> Made:
        rulings: list[Ruling] = []
        facts, best = self.report.facts, self.report.facts["best"]
        point = operating_point(facts, best["arm"], best["seed"])
        if self.section.enabled:
            rulings = rule_on_report(facts, self.section)
            if "screening" in facts:
                rulings += rule_on_screening(point, self.section)
            rulings += rule_on_export(self.export.facts, self.section) if self.export else []
        verdict = overall(rulings)
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[self.report.digest, self.corpus.manifest.digest, *([self.export.key] if self.export else [])],
            section=self.section.identity(),
            outputs=[],
            facts={
                "arm": self.report.facts["best"]["arm"],
                "verdict": verdict,
                "rules": [ruling.to_json() for ruling in rulings],
                "operating_point": point,
                "why": _why(rulings, verdict),
            },
        )
        if verdict != PASSED:
            self.context.message(f"the gate is closed: {manifest.facts['why']}")
        return Made(manifest, made=1, total=1)

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
    context: Context, corpus: Corpus, report: Manifest, spec: Spec, export: Manifest | None = None
) -> StageResult:
    """Run the stage; see `GateWork`."""
    return run_stage(GateWork(context, corpus, report, spec, export))


def _bind(context: Context, spec: Spec, *, corpus: Manifest, report: Manifest, export: Manifest) -> Any:
    return GateWork(context, Corpus(context.store, corpus), report, spec, export)


GATE = Stage(STAGE, _bind)
