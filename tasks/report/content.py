"""Everything that the page and the model card say, put together once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.drawing.markdown import interval_text, number
from tasks.drawing.purpose import limits, not_for, purpose
from tasks.evaluate.titles import METRIC_TITLES, title_of
from tasks.report import short, tables
from tasks.report.curves import Calibration, Ranking, calibration, ranking
from tasks.report.predictions import Predicted, PredictionTable, how_decided
from tasks.report.sources import CorpusSource, sources_of
from tasks.report.tables import Confusion, Table
from tasks.report.worst import Mistake, worst_errors
from tasks.spec import Spec


@dataclass(frozen=True)
class Made:
    """One manifest that the page rests on."""

    stage: str
    version: int
    key: str
    digest: str


class Content:
    """What is told of the best student of a report.

    Args:
        report, gate: manifests of evaluate and gate.
        student: manifest of the student that the report calls best; None where it is not at hand.
        export: manifest of export; None where the line has none.
    """

    def __init__(
        self,
        corpus: Corpus,
        report: Manifest,
        gate: Manifest,
        spec: Spec,
        *,
        student: Manifest | None = None,
        export: Manifest | None = None,
    ) -> None:
        self.corpus, self.report, self.spec = corpus, report, spec
        self._gate, self._student, self._export = gate, student, export
        self.facts: Mapping[str, Any] = report.facts
        self.gate: Mapping[str, Any] = gate.facts
        self.export: Mapping[str, Any] | None = None if export is None else export.facts
        self.title = spec.register_.name or spec.name
        self.private = spec.private

    @cached_property
    def table(self) -> PredictionTable:
        """Predictions of the report."""
        return PredictionTable(self.corpus.store, self.report)

    @cached_property
    def test(self) -> Predicted:
        """The student's answers for the test images."""
        best = self.facts["best"]
        return self.table.of(best["arm"], best["seed"], "test")

    @cached_property
    def glance(self) -> dict[str, str]:
        """What people want to know first: lines for people by their names.

        What a run found new or cached stands in its own pages: this one is the same for the same inputs.
        """
        drift = next((rule for rule in self.gate["rules"] if rule["rule"] == "drift"), None)
        manifest = self.corpus.manifest
        return {
            "verdict": short.verdict_text(self.gate),
            "challenger minus champion": short.difference_text(self.gate),
            "worst site": short.worst_site_text(self.facts),
            "drift": f"{drift['verdict']}: {drift['figure']}" if drift else "not looked for",
            "ungradable images": f"{short.ungradable(self.corpus.store, manifest):,}",
            "files that could not be read": f"{short.quarantined(manifest):,}",
            "approver": f"decides after this page was written; MLflow tells who, at the model {self.title}",
        }

    @property
    def student(self) -> dict[str, str]:
        """What the student is: names and figures for people."""
        best = self.facts["best"]
        row = self.facts["arms"][best["arm"]]
        found = {"trained as": f"{title_of(best['arm'])}, seed {best['seed']}"}
        if self._student is not None:
            own = self._student.facts
            size = own["input_size"]
            found = {"network": str(own["model"]), **found, "input": f"{size} x {size} pixels, RGB"}
        if row["parameters"]:
            found["parameters"] = f"{row['parameters']:,}"
        if self.export is not None and self.export.get("multiply_adds"):
            found["multiply-adds"] = f"{self.export['multiply_adds'] / 1e6:,.1f} million"
        if best["val"] is not None:
            found["chosen"] = f"by {METRIC_TITLES[self.facts['chosen_by']]} on validation, {best['val']:.3f}"
        return found

    @property
    def purpose(self) -> list[str]:
        """What it is for."""
        return purpose(self.facts, self.corpus.modality)

    @property
    def not_for(self) -> list[str]:
        """What it is not for."""
        return not_for(self.facts, self.corpus.modality)

    @property
    def limits(self) -> list[str]:
        """What lessens the weight of the figures."""
        return limits(self.facts)

    @property
    def intervals(self) -> str:
        """What the brackets behind figures are."""
        if not self.facts["resamples"]:
            return "No intervals were asked for."
        return f"In brackets the 95 % interval from {self.facts['resamples']:,} resamples of patients."

    @property
    def screening(self) -> Table | None:
        """Sensitivity and specificity at the gate's operating point, beside the other arms, each at its own."""
        rows = []
        point = self.gate["operating_point"]
        if point is not None:
            rows.append(["the registered student", *(_with_interval(point[name]) for name in _SIDES)])
            if "image" in point:
                rows.append(["the same, by image", *(_with_interval(point["image"][name]) for name in _SIDES)])
        for arm, row in self.facts.get("screening", {}).get("arms", {}).items():
            rows.append([f"{title_of(arm)}, mean of seeds", *(_with_interval(row[name]) for name in _SIDES)])
        unit = (point or {}).get("unit", "image")
        return Table([f"referral by {unit}", *_SIDES], rows, frozenset({0})) if rows else None

    @property
    def looks(self) -> str | None:
        """How often the test images were looked at before; None where the gate does not count it."""
        found = self.gate.get("test")
        if not found or found.get("looks") is None:
            return None
        count = found["looks"]
        if not count:
            return "No other student was judged on these test images before."
        others = "another student was" if count == 1 else f"{count} other students were"
        return f"On these test images {others} judged before; each look makes the figures a little too good."

    @cached_property
    def ranking(self) -> Ranking | None:
        """ROC and precision-recall curves."""
        return ranking(self.table, self.gate["operating_point"])

    @cached_property
    def calibration(self) -> Calibration:
        """Reliability."""
        return calibration(self.table)

    @cached_property
    def confusion(self) -> Confusion:
        """Counts by truth and decision."""
        return tables.confused(self.facts, self.test)

    @property
    def how_decided(self) -> str:
        """How a class comes out of probabilities."""
        return how_decided(self.facts)

    @cached_property
    def worst(self) -> tuple[list[Mistake], int]:
        """The worst errors with pictures, and how many errors there are."""
        return worst_errors(self.corpus, self.facts, self.test)

    @property
    def sources(self) -> list[CorpusSource]:
        """Where the images come from."""
        return sources_of(self.spec)

    @property
    def made_of(self) -> list[Made]:
        """The manifests behind the page, the first one first."""
        stages = [self.corpus.manifest, self._student, self.report, self._export, self._gate]
        return [Made(m.stage, m.version, m.key, m.digest) for m in stages if m is not None]


_SIDES = ("sensitivity", "specificity")


def _with_interval(found: Mapping[str, Any]) -> str:
    return number(found["value"]) + interval_text(found["interval"])
