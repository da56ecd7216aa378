"""The stage register: a version of the best student in MLflow's registry, with lineage, and its alias.

The version carries the stage's key as a tag. That makes a second call find it, and makes a call after a crash finish
what is left: a version without an alias, an alias without a manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.errors import UsageError
from infra.servers.mlflow_errors import mlflow_errors
from infra.servers.tracking import VERSIONS_LOCK, connect, quiet
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Made, Stage, StageResult, StageWork, run_stage
from tasks.register.aliases import move_aliases
from tasks.register.versions import PARITY_TAG, SOURCES_TAG, make_version, settle, version_of
from tasks.spec import Spec

STAGE = "register"
VERSION = 6


class Registration(StageWork):
    """Make the best student a version of `register.name` (default: the spec's name).

    The manifest has no outputs; its facts are {name, version, aliases, run_id, verdict, reason, gate, parity,
    parity_sources}; of these `verdict` is the alias that it got, "" for none.

    Args:
        report: manifest of stage evaluate.
        models: trained models, among them the one that the report calls best; or the one student to register.
        upstream: manifests that the student was taught by (label, select), for its lineage tags.
        gate: manifest of stage gate, without whose pass no alias moves; None: nobody asks for one.
        export: manifest of stage export, whose files are packed; None: they are made anew, without int8.
        page: manifest of stage report, which follows from the others and enters no key; None: there is no page.

    Raises:
        UsageError: the report's best student is not among `models`, or the report does not judge the student; or MLflow
            refuses us.
        TransientError: MLflow or its artifact store cannot be reached or fails; the next try makes one version.
        PermanentError: the packed student does not answer as it was evaluated.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        report: Manifest,
        models: Manifest | Sequence[Manifest],
        corpus: Corpus,
        upstream: Sequence[Manifest],
        spec: Spec,
        gate: Manifest | None = None,
        export: Manifest | None = None,
        page: Manifest | None = None,
    ) -> None:
        super().__init__(context)
        self.gate, self.export, self.page = gate, export, page
        self.report, self.corpus, self.upstream, self.spec = report, corpus, upstream, spec
        self.student = _student(report, models)
        self.name = spec.register_.name or spec.name
        self.section = {**spec.register_.identity(), "name": self.name}

    @cached_property
    def key(self) -> str:
        """Of the report, the student and the name it gets."""
        return unit_key(
            STAGE,
            VERSION,
            inputs=[self.report.key, *(each.key for each in (self.gate, self.export) if each is not None)],
            section=self.section,
            weights=[self.student.output(kind="model").id],
        )

    def confirmed(self, manifest: Manifest) -> bool:
        with mlflow_errors():
            held = self._version(connect())
        return held is not None and str(held.version) == manifest.facts["version"]

    def count(self, manifest: Manifest) -> int:
        return 1

    def make(self) -> Made:
        with mlflow_errors():
            return self._make()

    def _make(self) -> Made:
        client = connect()
        # Two runs that register the same student at once make one version of it.
        with VERSIONS_LOCK:
            held = self._version(client)
            if held is not None:
                settle(client, held)
            held = held or make_version(
                client,
                self.name,
                self.key,
                self.report,
                self.student,
                self.corpus,
                self.upstream,
                self.spec,
                gate=self.gate,
                export=self.export,
                page=self.page,
                stage_version=VERSION,
                flow_run=self.context.run_id,
            )
            decision = move_aliases(client, self.name, held, self.spec.register_.promote, gate=self.gate)
        with quiet():
            aliases = sorted(client.get_model_version(self.name, held.version).aliases)
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[
                self.report.digest,
                self.student.digest,
                self.corpus.manifest.digest,
                *([self.gate.digest] if self.gate else []),
                *([self.export.key] if self.export else []),
                *([self.page.digest] if self.page else []),
            ],
            section=self.section,
            outputs=[],
            facts={
                "name": self.name,
                "version": str(held.version),
                "aliases": aliases,
                "run_id": held.run_id,
                "verdict": decision.alias,
                "reason": decision.reason,
                "gate": self.gate.facts["verdict"] if self.gate else "",
                "parity": held.tags[PARITY_TAG],
                "parity_sources": held.tags[SOURCES_TAG],
            },
        )
        return Made(manifest, made=1, total=1)

    def _version(self, client: Any) -> Any | None:
        """The registered version that carries the stage's key."""
        return version_of(client, self.name, self.key)


def register(
    context: Context,
    report: Manifest,
    models: Manifest | Sequence[Manifest],
    corpus: Corpus,
    upstream: Sequence[Manifest],
    spec: Spec,
    gate: Manifest | None = None,
    export: Manifest | None = None,
    page: Manifest | None = None,
) -> StageResult:
    """Run the stage; see `Registration`."""
    return run_stage(Registration(context, report, models, corpus, upstream, spec, gate, export, page))


def _student(report: Manifest, models: Manifest | Sequence[Manifest]) -> Manifest:
    if isinstance(models, Manifest):
        return models
    best = report.facts["best"]
    found = [m for m in models if best is not None and m.key == best["key"]]
    if not found:
        raise UsageError(f"report {report.key[:12]} names no best student among the {len(models)} models given")
    return found[0]


def _bind(
    context: Context,
    spec: Spec,
    *,
    corpus: Manifest,
    report: Manifest,
    export: Manifest,
    gate: Manifest,
    page: Manifest,
    models: Sequence[Manifest],
    labels: Sequence[Manifest],
    select: Manifest,
) -> Registration:
    upstream = [*labels, select]
    return Registration(context, report, models, Corpus(context.store, corpus), upstream, spec, gate, export, page)


REGISTER = Stage("register", _bind)
