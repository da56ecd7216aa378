"""The stage study: figures, table, plots and report of all conditions; nothing is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from infra.digest import canonical_json, unit_key
from infra.machine import machine_kind
from infra.storage.manifest import Manifest, Output
from models.statistics.metrics import FIT_FREE
from tasks.data.catalog import table_of
from tasks.data.corpus import Corpus
from tasks.distill.teacher_comparison import FIT
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec
from tasks.study.curves import curves_csv, curves_plot, read_curves
from tasks.study.design import Cell, Study
from tasks.study.figures import StudyFigures, figures_of, study_metric
from tasks.study.measures import Measures, costed, nearness, over_fitting, teacher_of
from tasks.study.networks import network_costs
from tasks.study.plot import study_plot
from tasks.study.predictions import StudyPredictions, read_predictions
from tasks.study.report import study_report
from tasks.study.runs import Ran
from tasks.study.tables import table_csv, table_markdown, table_tex
from tasks.study.training_fit import asked_of, training_predictions

STAGE, VERSION = "study", 2
FOLDER = "studies/"
TRIVIAL = {
    "majority": "of the most frequent class",
    "thumbnails": "of thumbnails",
    "borders": "of the images' borders alone",
}


class StudyWork(StageWork):
    """Compare the arms of a study.

    Outputs by `meta["kind"]`: report (Markdown), figures (JSON), csv, tex, png, svg, and those of convergence:
    curves_csv, curves_png, curves_svg; the facts are those of `tasks.study.figures.StudyFigures`. Latencies are those
    of the machine that made the manifest: no time enters the key.

    Args:
        corpus: manifest of the whole set.
        runs: what the line made, by condition; one a fold.
        rates: factors of the learning rates, by condition, fold and arm.

    Raises:
        CorruptError: conditions were judged on different test images, or an output is not what the store promises.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        study: Study,
        corpus: Manifest,
        runs: Mapping[str, Sequence[Ran]],
        rates: Mapping[str, Sequence[Mapping[str, float]]],
        spec: Spec,
        seeds: Sequence[int],
    ) -> None:
        super().__init__(context)
        self.study, self.corpus, self.runs = study, corpus, runs
        self.rates, self.spec, self.seeds = rates, spec, seeds

    @cached_property
    def key(self) -> str:
        contrasts = [self.study.primary, *self.study.contrasts]
        return unit_key(
            STAGE,
            VERSION,
            inputs=[self.corpus.digest, *(ran.report.key for own in self.runs.values() for ran in own)],
            section={
                "kind": self.study.kind,
                "conditions": {each.name: each.title for each in self.study.conditions},
                "titles": dict(self.study.titles),
                "contrasts": [
                    [each.cell.condition, each.cell.arm, each.baseline.condition, each.baseline.arm]
                    for each in contrasts
                ],
                "rates": {name: [dict(each) for each in own] for name, own in self.rates.items()},
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
        reports = {name: [ran.report for ran in own] for name, own in self.runs.items()}
        found = read_predictions(self.store, reports, table_of(self.store, self.corpus, "catalog"))
        figures = figures_of(
            study,
            found,
            metric=self.metric,
            resamples=self.resamples,
            bins=self.spec.evaluate.bins,
            measures=self._measures(found),
        )
        phantom = bool(next(iter(reports.values()))[0].facts["phantom"])
        report = study_report(
            study,
            figures,
            corpus=corpus,
            task=str(self.corpus.facts["task"]),
            phantom=phantom,
            seeds=self.seeds,
            rates=self.rates,
            fit=self._fit(),
            notes=[*self._notes(), *_trivial(figures)],
            machine=machine_kind("cpu", 1),
        )
        png, svg = study_plot(study, figures, phantom=phantom)
        watched = f"val_{FIT_FREE[found.task]}"
        curves = read_curves(self.cache, self._students(), watched)
        curves_png, curves_svg = curves_plot(study, curves, watched, phantom=phantom)
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
            put("curves_csv", "csv", curves_csv(curves)),
            put("curves_png", "png", curves_png),
            put("curves_svg", "svg", curves_svg),
        ]
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[self.corpus.digest, *(ran.report.digest for own in self.runs.values() for ran in own)],
            section={"kind": study.kind, "seeds": list(self.seeds)},
            outputs=outputs,
            facts={**facts, "kind": study.kind, "table": table_markdown(study, figures, ())},
        )
        return Made(manifest, made=len(outputs), total=len(outputs))

    def _students(self) -> dict[Cell, list[Manifest]]:
        """Trainings of every student: fold after fold, a seed each."""
        arms = {each.name: each.arms for each in self.study.conditions}
        found: dict[Cell, list[Manifest]] = {}
        for name, own in self.runs.items():
            for ran in own:
                for arm in arms[name]:
                    found.setdefault(Cell(name, arm), []).extend(ran.models[arm][seed] for seed in self.seeds)
        return found

    def _measures(self, found: StudyPredictions) -> dict[Cell, Measures]:
        """What the table says beside metrics, of students and of teachers that were trained here."""
        every = {
            Cell(name, arm): next(iter(models.values()))
            for name, own in self.runs.items()
            for arm, models in own[0].models.items()
        }
        costs = network_costs(self.store, every)
        students = self._students()
        asked = {name: [asked_of(Corpus(self.store, ran.corpus)) for ran in own] for name, own in self.runs.items()}
        pairs = {
            cell: [(model, asked[cell.condition][place // len(self.seeds)]) for place, model in enumerate(each)]
            for cell, each in students.items()
        }
        seen = training_predictions(self.context, [pair for each in pairs.values() for pair in each])
        teachers = {
            name: {key: prob for ran in own for key, prob in teacher_of(self.store, ran).items()}
            for name, own in self.runs.items()
        }
        measures = {}
        for cell, said in found.cells.items():
            fields = costed(costs.get(cell))
            if cell in students:
                fields |= nearness(found.task, found, said.prob, teachers[cell.condition])
                shown = [(seen[model.key], own.label, own.labels) for model, own in pairs[cell] if model.key in seen]
                if len(shown) == len(pairs[cell]):
                    by_seed = [shown[place :: len(self.seeds)] for place in range(len(self.seeds))]
                    fields |= over_fitting(found, self.metric, by_seed, said.prob, self.spec.evaluate.bins)
            measures[cell] = Measures(**fields)
        return measures

    def _notes(self) -> list[str]:
        """Of the student's size, where the paper's is known and another (by more than 1 %)."""
        budget = self.study.budget
        sizes = {model.facts["parameters"] for own in self._students().values() for model in own}
        other = [size for size in sorted(sizes) if budget and abs(size - budget) > 0.01 * budget]
        return [f"A student has {size:,} parameters; the paper's has {budget:,}." for size in other]

    def _fit(self) -> dict[str, dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for cell, (model, *_) in self._students().items():
            best = model.facts["best"]
            found.setdefault(cell.condition, {})[cell.arm] = {name: best[name] for name in FIT if name in best}
        return found

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        facts = result.manifest.facts
        return [Artifact(f"study-{slug(self.spec.name)}", f"study {facts['kind']}", str(facts["table"]))]


def _trivial(figures: StudyFigures) -> list[str]:
    """What is reached without looking at the tissue, which no arm can be credited with."""
    first = figures.rows[0].condition
    found = {row.arm: row.values[figures.metric] for row in figures.rows if row.condition == first}
    told = [f"{what} {found[arm]:.3f}" for arm, what in TRIVIAL.items() if found.get(arm) is not None]
    if not told:
        return []
    return [f"Without any medicine {figures.metric} is {', '.join(told)}: an arm that is no better shows nothing here."]


def run_study(work: StudyWork) -> StageResult:
    """Run the stage; see `StudyWork`."""
    return run_stage(work)
