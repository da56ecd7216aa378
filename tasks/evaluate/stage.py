"""Evaluate: predictions on the cluster, numbers, plots and a report; nothing heavy on a cache hit."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from infra.compute.cluster import Cluster
from infra.digest import unit_key
from infra.errors import CorpusError, SpecError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.data.catalog import MISSING, QUARANTINED
from tasks.data.corpus import Corpus
from tasks.evaluate.units import JUDGED, Step, compute
from tasks.pipeline.result import StageResult
from tasks.spec import Spec

STAGE = "evaluate"
VERSION = 2

_MAIN = {"single": "macro_f1", "ordinal": "qwk", "multilabel": "auc"}
_RANK = {"taught": 0, "labels_only": 1}


def evaluate(
    corpus: Corpus,
    models: list[Manifest],
    spec: Spec,
    store: Store,
    cluster: Cluster,
    *,
    progress: Step | None = None,
    stop: Callable[[], bool] | None = None,
) -> StageResult:
    """Compare trained models with each other and with the baselines on the labelled test images.

    Args:
        models: manifests of stage distill (taught and labels_only, one a seed) and teach, in any order.
        progress: called with (units done, units in all).

    Returns:
        A manifest with outputs of kind report, metrics, confusion, reliability and predictions; its facts are
        what `tasks.evaluate.results.summarise` says.

    Raises:
        CorpusError: no test image is labelled.
        SpecError: `evaluate.metric` is no metric of the corpus's task, `evaluate.referable` no grade of it.
        UsageError: no model was given, or one that knows other classes.
    """
    models = sorted(models, key=_order)
    check_models(corpus, models, spec)
    key = stage_key(corpus, models, spec)
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key, verify=spec.run.verify)
    if hit is not None and hit.whole:
        return StageResult(hit.manifest, made=0, total=len(hit.manifest.outputs))
    if not any(shard.labelled.any() for shard in corpus.of_split("test")):
        raise CorpusError(
            f"{corpus.title}: no test image is labelled; see corpus.split.test or the official split file"
        )
    from tasks.evaluate.write import write_outputs

    logits, features = compute(corpus, models, spec, cache, cluster, progress, stop)
    made = write_outputs(corpus, models, spec, cache, key, main_metric(corpus, spec), logits, features)
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=[corpus.manifest.digest, *(model.key for model in models)],
        section=spec.evaluate.identity(),
        outputs=made.outputs,
        facts=made.facts,
    )
    return StageResult(cache.commit(manifest), made=len(made.outputs), total=len(made.outputs))


def stage_key(corpus: Corpus, models: Sequence[Manifest], spec: Spec) -> str:
    """Key of the stage: models, judged shards, today's labels, and for the baselines the labelled train shards."""
    shards = [s for split in JUDGED for s in corpus.of_split(split)]
    if spec.evaluate.baselines:
        shards += [s for s in corpus.of_split("train") if s.labelled.any()]
    return unit_key(
        STAGE,
        VERSION,
        inputs=[
            *(model.output(kind="model").id for model in sorted(models, key=_order)),
            *(shard.id for shard in shards),
            corpus.manifest.output(kind="catalog").id,
        ],
        section={
            **spec.evaluate.identity(),
            "referable": first_referred(corpus, spec),
            "corpus": corpus.title,
            "phantom": is_phantom(spec),
            "task": corpus.task,
            "classes": corpus.classes,
        },
    )


def main_metric(corpus: Corpus, spec: Spec) -> str:
    """The metric that ranks the models."""
    return spec.evaluate.metric or _MAIN[corpus.task]


def first_referred(corpus: Corpus, spec: Spec) -> int | None:
    """The first grade that is referred; None where nobody is.

    Five grades of fundus images are those of diabetic retinopathy, of which moderate (2) and worse are referred.
    """
    if corpus.task != "ordinal" or spec.evaluate.referable is not None:
        return spec.evaluate.referable
    return 2 if corpus.modality == "fundus" and len(corpus.classes) == 5 else None


def is_phantom(spec: Spec) -> bool:
    """Whether the images were drawn by code."""
    return spec.corpus.adapter.startswith("phantom-")


def kept_out(corpus: Corpus) -> dict[str, int]:
    """How many catalog rows are quarantined, and how many have no image."""
    status = corpus.catalog["status"].to_pylist()
    return {QUARANTINED: status.count(QUARANTINED), MISSING: status.count(MISSING)}


def _order(model: Manifest) -> tuple[int, str, int, str]:
    arm = str(model.facts["arm"])
    return (_RANK.get(arm, 2), arm, int(model.facts["seed"]), model.key)


def check_models(corpus: Corpus, models: Sequence[Manifest], spec: Spec) -> None:
    if not models:
        raise UsageError("evaluate needs at least one trained model")
    for model in models:
        if list(model.facts["classes"]) != corpus.classes:
            raise UsageError(
                f"{model.facts['arm']} seed {model.facts['seed']} knows the classes {model.facts['classes']}, "
                f"the corpus {corpus.title} has {corpus.classes}"
            )
    referable = spec.evaluate.referable
    if referable is not None and corpus.task != "ordinal":
        raise SpecError(f"evaluate.referable: {corpus.title} has task {corpus.task}, not ordinal; leave it out")
    if referable is not None and referable >= len(corpus.classes):
        raise SpecError(f"evaluate.referable: {referable} is past the last grade, {len(corpus.classes) - 1}")
    if spec.evaluate.metric is not None:
        from models.statistics.metrics import names

        known = names(corpus.task)
        if spec.evaluate.metric not in known:
            near = difflib.get_close_matches(spec.evaluate.metric, known, n=1, cutoff=0.0)
            raise SpecError(
                f"evaluate.metric: {spec.evaluate.metric!r} is not one of {', '.join(known)}; did you mean {near[0]}?"
            )
