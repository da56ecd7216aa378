"""The stage study: figures, table, plot and report of all conditions; nothing is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from infra.digest import canonical_json, unit_key
from infra.storage.manifest import Manifest, Output
from tasks.data.catalog import table_of
from tasks.distill.teacher_comparison import FIT
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec
from tasks.study.design import Study
from tasks.study.figures import figures_of, study_metric
from tasks.study.plot import study_plot
from tasks.study.predictions import read_predictions
from tasks.study.report import study_report
from tasks.study.tables import table_csv, table_markdown, table_tex

STAGE, VERSION = "study", 1
FOLDER = "studies/"


class StudyWork(StageWork):
    """Compare the arms of a study.

    Outputs by `meta["kind"]`: report (Markdown), figures (JSON), csv, tex, png, svg; the facts are those of
    `tasks.study.figures.StudyFigures`, with `report` the name of the report.

    Args:
        corpus: manifest of the whole set.
        reports: of stage evaluate, by condition.
        models: of the students, by condition and arm; of the first seed.
        rates: factors of the learning rates, by condition and arm.

    Raises:
        CorruptError: conditions were judged on different test images, or an output is not what the store promises.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        study: Study,
        corpus: Manifest,
        reports: Mapping[str, Manifest],
        models: Mapping[str, Mapping[str, Manifest]],
        rates: Mapping[str, Mapping[str, float]],
        spec: Spec,
        seeds: Sequence[int],
    ) -> None:
        super().__init__(context)
        self.study, self.corpus, self.reports, self.models = study, corpus, reports, models
        self.rates, self.spec, self.seeds = rates, spec, seeds

    @cached_property
    def key(self) -> str:
        contrasts = [self.study.primary, *self.study.contrasts]
        return unit_key(
            STAGE,
            VERSION,
            inputs=[self.corpus.digest, *(report.key for report in self.reports.values())],
            section={
                "kind": self.study.kind,
                "conditions": {each.name: each.title for each in self.study.conditions},
                "titles": dict(self.study.titles),
                "contrasts": [
                    [each.cell.condition, each.cell.arm, each.baseline.condition, each.baseline.arm]
                    for each in contrasts
                ],
                "rates": {name: dict(own) for name, own in self.rates.items()},
                "seeds": list(self.seeds),
                "metric": self.metric,
                "resamples": self.resamples,
                "bins": self.spec.evaluate.bins,
                "notes": [*self.study.notes],
            },
        )

    @property
    def metric(self) -> str:
        """The main metric."""
        return study_metric(str(self.corpus.facts["task"]), self.spec.evaluate.metric)

    @property
    def resamples(self) -> int:
        """Resamples of patients and seeds."""
        return self.spec.evaluate.bootstrap or 1000

    def make(self) -> Made:
        study, corpus = self.study, str(self.corpus.facts["corpus"])
        found = read_predictions(self.store, self.reports, table_of(self.store, self.corpus, "catalog"))
        figures = figures_of(study, found, metric=self.metric, resamples=self.resamples, bins=self.spec.evaluate.bins)
        phantom = bool(next(iter(self.reports.values())).facts["phantom"])
        report = study_report(
            study,
            figures,
            corpus=corpus,
            task=str(self.corpus.facts["task"]),
            phantom=phantom,
            seeds=self.seeds,
            rates=self.rates,
            fit=self._fit(),
            notes=self._notes(),
        )
        png, svg = study_plot(study, figures, phantom=phantom)
        facts = figures.to_json()

        def put(kind: str, ending: str, data: bytes) -> Output:
            name = f"{FOLDER}{corpus}/{self.key[:12]}/{kind}-{{sha8}}.{ending}"
            return self.cache.put_object(name, data, id=f"{self.key}-{kind}", unit=self.key, meta={"kind": kind})

        outputs = [
            put("report", "md", report.encode()),
            put("figures", "json", canonical_json(facts) + b"\n"),
            put("csv", "csv", table_csv(study, figures)),
            put("tex", "tex", table_tex(study, figures)),
            put("png", "png", png),
            put("svg", "svg", svg),
        ]
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[self.corpus.digest, *(report.digest for report in self.reports.values())],
            section={"kind": study.kind, "seeds": list(self.seeds)},
            outputs=outputs,
            facts={**facts, "kind": study.kind, "table": table_markdown(study, figures, ())},
        )
        return Made(manifest, made=len(outputs), total=len(outputs))

    def _notes(self) -> list[str]:
        """Of the student's size, where the paper's is known and another (by more than 1 %)."""
        budget = self.study.budget
        sizes = {model.facts["parameters"] for own in self.models.values() for model in own.values()}
        other = [size for size in sorted(sizes) if budget and abs(size - budget) > 0.01 * budget]
        return [f"A student has {size:,} parameters; the paper's has {budget:,}." for size in other]

    def _fit(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            condition: {
                arm: {name: model.facts["best"][name] for name in FIT if name in model.facts["best"]}
                for arm, model in own.items()
            }
            for condition, own in self.models.items()
        }

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        facts = result.manifest.facts
        return [Artifact(f"study-{slug(self.spec.name)}", f"study {facts['kind']}", str(facts["table"]))]


def run_study(work: StudyWork) -> StageResult:
    """Run the stage; see `StudyWork`."""
    return run_stage(work)
