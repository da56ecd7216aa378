"""The stage report: one page and a model card of the student that the evaluation calls best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest, Output
from tasks.data.corpus import Corpus
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage, slug
from tasks.report.sources import sources_of
from tasks.spec import Spec

STAGE, VERSION = "report", 2

PAGE, SHARED, CARD = "html", "html_shared", "card"
"""Kinds of outputs: the page; its copy without pictures, where a corpus is private; the model card."""


class ReportWork(StageWork):
    """Write the page and the model card.

    Outputs by `meta["kind"]`: `html` the page with pictures of the worst errors, which must not leave the store where a
    corpus is private; `html_shared`, then, the same without pictures; `card` the model card in Markdown. The facts are
    {title, corpus, private, verdict, pictures}.

    Args:
        report, gate: manifests of evaluate and gate.
        models: trained models, among them the one that the report calls best.
        export: manifest of export, for formats and speed; None: the page says nothing of these.

    Raises:
        UsageError: the report has no student.
        CorruptError: its table of predictions, or a test image that is shown, is damaged.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        corpus: Corpus,
        report: Manifest,
        gate: Manifest,
        models: Sequence[Manifest],
        spec: Spec,
        *,
        export: Manifest | None = None,
    ) -> None:
        super().__init__(context)
        if report.facts["best"] is None:
            raise UsageError(f"report {report.key[:12]} has no student to tell of")
        self.corpus, self.report, self.gate, self.export, self.spec = corpus, report, gate, export, spec
        self.student = next((model for model in models if model.key == report.facts["best"]["key"]), None)

    @cached_property
    def section(self) -> dict[str, Any]:
        """What of the spec the page shows."""
        return {
            "title": self.spec.register_.name or self.spec.name,
            "corpora": [[each.name, each.adapter, each.private, each.use] for each in sources_of(self.spec)],
        }

    @cached_property
    def key(self) -> str:
        """Of evaluation, gate and export, of the catalog, and of what the page shows of the spec."""
        return unit_key(
            STAGE,
            VERSION,
            inputs=[
                self.report.key,
                self.gate.key,
                *([self.export.key] if self.export else []),
                self.corpus.manifest.output(kind="catalog").id,
            ],
            section=self.section,
        )

    def make(self) -> Made:
        # Jinja and OpenCV are of no use to who finds the page.
        from tasks.report.card import card_of
        from tasks.report.content import Content
        from tasks.report.page import page_of

        corpus = self.corpus
        content = Content(corpus, self.report, self.gate, self.spec, student=self.student, export=self.export)
        folder = f"reports/{corpus.title}/page-{self.key[:12]}"

        def put(kind: str, ending: str, data: bytes) -> Output:
            name = f"{folder}/{kind}-{{sha8}}.{ending}"
            return self.cache.put_object(name, data, id=f"{self.key}-{kind}", unit=self.key, meta={"kind": kind})

        outputs = [put(PAGE, "html", page_of(content, pictures=True))]
        if content.private:
            outputs.append(put(SHARED, "html", page_of(content, pictures=False)))
        outputs.append(put(CARD, "md", card_of(content)))
        made_of = [corpus.manifest, self.report, self.gate, self.export, self.student]
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[each.digest for each in made_of if each is not None],
            section=self.section,
            outputs=outputs,
            facts={
                "title": content.title,
                "corpus": corpus.title,
                "private": content.private,
                "verdict": self.gate.facts["verdict"],
                "pictures": len(content.worst[0]),
            },
        )
        return Made(manifest, made=len(outputs), total=len(outputs))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        folder = self.store.url.partition("?")[0]
        rows = [
            {"what": what, "where": f"{folder}/{result.manifest.output(kind=kind).name}"}
            for what, kind in (("page", PAGE), ("model card", CARD))
        ]
        return [Artifact(key=f"page-{slug(self.corpus.title)}", description="the student's page", content=rows)]


def write_report(
    context: Context,
    corpus: Corpus,
    report: Manifest,
    gate: Manifest,
    models: Sequence[Manifest],
    spec: Spec,
    *,
    export: Manifest | None = None,
) -> StageResult:
    """Run the stage; see `ReportWork`."""
    return run_stage(ReportWork(context, corpus, report, gate, models, spec, export=export))


def _bind(
    context: Context,
    spec: Spec,
    *,
    corpus: Manifest,
    report: Manifest,
    gate: Manifest,
    models: Sequence[Manifest],
    export: Manifest | None = None,
) -> ReportWork:
    return ReportWork(context, Corpus(context.store, corpus), report, gate, models, spec, export=export)


REPORT = Stage(STAGE, _bind, folders=("reports/",))
