"""The stage evaluate: predictions on the cluster, numbers, plots and a report; nothing heavy on a cache hit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.errors import CorpusError
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.drawing.pool_text import pool_text
from tasks.evaluate.scope import (
    JUDGED,
    as_named,
    averaged_views,
    check_models,
    decided_for,
    decision_unit,
    first_referred,
    in_order,
    is_phantom,
    main_metric,
    pool_is_used,
    random_views,
    referred,
    whole_teachers,
)
from tasks.evaluate.units import count_units, predict_all
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Made, Stage, StageResult, StageWork, UnitCount, run_stage
from tasks.spec import Spec

STAGE = "evaluate"
VERSION = 9


class Evaluation(StageWork):
    """Compare trained models with each other and with the baselines on the labelled test images.

    An image that kills the process that predicts it is left out for every model; the manifest's quarantine names it.

    Outputs by `meta["kind"]`: report, metrics, confusion, reliability and predictions; the facts are those of
    `tasks.evaluate.results.summarise`, completed by `tasks.evaluate.write.facts_of`; `headline` is what the report says
    first.

    Args:
        models: manifests of stage distill (taught and labels_only, one a seed) and teach, in any order.
        select: manifest of the weights that the students were taught with, of which the report says how many images
            taught; it follows from the models and enters no key. None: nothing is said.

    Raises:
        CorpusError: no test image is labelled.
        SpecError: `evaluate.metric` is no metric of the corpus's task, `evaluate.referable` no grade of it,
            `evaluate.unit` known of no image.
        UsageError: no model was given, or one that knows other classes; `run.device: cuda` and no GPU is offered.
        CorruptError: an image or a model's file is not what the store promises.
        PermanentError: no test image can be predicted.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self,
        context: Context,
        corpus: Corpus,
        models: Sequence[Manifest],
        spec: Spec,
        *,
        select: Manifest | None = None,
    ) -> None:
        super().__init__(context)
        self.select = select
        self.corpus, self.models, self.spec = corpus, in_order(models), spec
        check_models(corpus, self.models, spec)

    @cached_property
    def key(self) -> str:
        """Of the models, the judged shards, today's labels, and for the baselines the labelled train shards."""
        corpus, spec = self.corpus, self.spec
        shards = [s for split in JUDGED for s in corpus.of_split(split)]
        if spec.evaluate.baselines:
            shards += [s for s in corpus.of_split("train") if s.labelled.any()]
        return unit_key(
            STAGE,
            VERSION,
            inputs=[
                *(model.output(kind="model").id for model in self.models),
                *(shard.id for shard in shards),
                corpus.manifest.output(kind="catalog").id,
            ],
            section={
                **spec.evaluate.identity(),
                "referable": first_referred(corpus, spec),
                "decide_for": decided_for(corpus, spec),
                "unit": decision_unit(corpus, spec) if referred(corpus, spec) else None,
                "corpus": corpus.title,
                "phantom": is_phantom(spec),
                "task": corpus.task,
                "classes": corpus.classes,
                **self._averaged(),
                **self._ensembles(),
            },
        )

    def _averaged(self) -> dict[str, Any]:
        """What averages over views add to the key; nothing where there are none."""
        averaged = averaged_views(self.spec)
        recipe = random_views(self.corpus, self.spec, self.spec.views.size)
        return {"average": averaged, "views": recipe.recipe_id} if averaged else {}

    def _ensembles(self) -> dict[str, Any]:
        """What teachers of several members add to the key; nothing where there are none."""
        several = {whole.arm: whole.members for whole in whole_teachers(self.spec) if len(whole.members) > 1}
        return {"members": several} if several else {}

    def lookup(self) -> Manifest | None:
        manifest = super().lookup()
        again = manifest is not None and manifest.quarantine and self.context.run.retry_quarantined
        return None if again else manifest

    def missing(self) -> UnitCount:
        return count_units(self.context, self.corpus, self.models, self.spec)

    def make(self) -> Made:
        corpus, spec = self.corpus, self.spec
        if not any(shard.labelled.any() for shard in corpus.of_split("test")):
            raise CorpusError(
                f"{corpus.title}: no test image is labelled; see corpus.split.test or the official split file"
            )
        from tasks.evaluate.write import write_outputs

        found = predict_all(self.context, corpus, self.models, spec)
        pool = None if self.select is None else pool_text(self.select.facts, used=pool_is_used(spec))
        made = write_outputs(
            corpus, self.models, spec, self.cache, self.key, main_metric(corpus, spec), found, pool=pool
        )
        for line in made.facts["headline"]:
            self.context.message(line)
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[corpus.manifest.digest, *(model.key for model in self.models)],
            section=spec.evaluate.identity(),
            outputs=made.outputs,
            quarantine=found.quarantine(corpus),
            facts=made.facts,
        )
        return Made(manifest, made=len(made.outputs), total=len(made.outputs))


def evaluate(context: Context, corpus: Corpus, models: Sequence[Manifest], spec: Spec) -> StageResult:
    """Run the stage; see `Evaluation`."""
    return run_stage(Evaluation(context, corpus, models, spec))


def _bind(
    context: Context, spec: Spec, *, corpus: Manifest, models: Sequence[Manifest], select: Manifest
) -> Evaluation:
    return Evaluation(context, Corpus(context.store, corpus), as_named(models, spec), spec, select=select)


EVALUATE = Stage("evaluate", _bind, folders=("reports/", "predictions/"))
