"""Evaluate: predictions on the cluster, numbers, plots and a report; nothing heavy on a cache hit."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays

from infra.cache import StageCache, UnitRecord
from infra.cluster import Cluster, cores
from infra.digest import digest_of, unit_key
from infra.errors import CorpusError, PermanentError, SpecError, StillroomError, TransientError, UsageError
from infra.fanout import Job, fan_out
from infra.manifest import Manifest
from infra.store import Store
from tasks.catalog import MISSING, QUARANTINED
from tasks.corpus import Corpus
from tasks.result import StageResult
from tasks.spec import Spec

STAGE = "evaluate"
VERSION = 1

_MAIN = {"single": "macro_f1", "ordinal": "qwk", "multilabel": "auc"}
_RANK = {"taught": 0, "labels_only": 1}
_JUDGED = ("val", "test")

Step = Callable[[int, int], None]


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
        SpecError: `evaluate.metric` is no metric of the corpus's task.
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

    logits, features = _compute(corpus, models, spec, cache, cluster, progress, stop)
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
    shards = [s for split in _JUDGED for s in corpus.of_split(split)]
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
            "corpus": corpus.title,
            "phantom": is_phantom(spec),
            "task": corpus.task,
            "classes": corpus.classes,
        },
    )


def main_metric(corpus: Corpus, spec: Spec) -> str:
    """The metric that ranks the models."""
    return spec.evaluate.metric or _MAIN[corpus.task]


def is_phantom(spec: Spec) -> bool:
    """Whether the images were drawn by code."""
    return spec.corpus.adapter.startswith("phantom-")


def kept_out(corpus: Corpus) -> dict[str, int]:
    """How many catalog rows are quarantined, and how many have no image."""
    status = corpus.catalog["status"].to_pylist()
    return {QUARANTINED: status.count(QUARANTINED), MISSING: status.count(MISSING)}


@dataclass(frozen=True)
class _Unit:
    """One job: logits of (model, shard), or features of a shard when the model is -1."""

    key: str
    model: int
    shard: int


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
    if spec.evaluate.metric is not None:
        from models.metrics import names

        known = names(corpus.task)
        if spec.evaluate.metric not in known:
            near = difflib.get_close_matches(spec.evaluate.metric, known, n=1, cutoff=0.0)
            raise SpecError(
                f"evaluate.metric: {spec.evaluate.metric!r} is not one of {', '.join(known)}; did you mean {near[0]}?"
            )


def _compute(
    corpus: Corpus,
    models: Sequence[Manifest],
    spec: Spec,
    cache: StageCache,
    cluster: Cluster,
    progress: Step | None,
    stop: Callable[[], bool] | None,
) -> tuple[dict[tuple[int, int], np.ndarray], dict[int, dict[str, np.ndarray]]]:
    """Logits by (model, shard) and features by shard, made on the cluster where the store has none yet."""
    from tasks.evaluate.predict import STAGE as UNITS

    units = _units(corpus, models, spec)
    done = cache.recorded(UNITS, [unit.key for unit in units], verify=spec.run.verify)
    todo = [unit for unit in units if unit.key not in done]
    if progress is not None:
        progress(len(done), len(units))
    if todo:
        for record in _run(corpus, models, spec, cluster, todo, stop):
            done[record.key] = record
            if progress is not None:
                progress(len(done), len(units))
    logits: dict[tuple[int, int], np.ndarray] = {}
    features: dict[int, dict[str, np.ndarray]] = {}
    for unit in units:
        arrays = load_arrays(cache.store.get(done[unit.key].outputs[0].name))
        if unit.model >= 0:
            logits[unit.model, unit.shard] = arrays["logits"]
        else:
            features[unit.shard] = arrays
    return logits, features


def _units(corpus: Corpus, models: Sequence[Manifest], spec: Spec) -> list[_Unit]:
    units = []
    judged = [(i, s) for i, s in enumerate(corpus.shards) if s.split in _JUDGED and s.labelled.any()]
    for m, model in enumerate(models):
        kept = ("model", "options", "view_size", "input_size", "mean", "std")
        section = {"view": 0, **{k: model.facts[k] for k in kept}}
        weights = [model.output(kind="model").id]
        for i, shard in judged:
            key = unit_key("predict", VERSION, inputs=[shard.id], section=section, weights=weights)
            units.append(_Unit(key, m, i))
    if spec.evaluate.baselines:
        for i, shard in enumerate(corpus.shards):
            if shard.labelled.any():
                section = {"rows": digest_of(np.flatnonzero(shard.labelled).tolist())}
                units.append(_Unit(unit_key("features", VERSION, inputs=[shard.id], section=section), -1, i))
    return units


def _run(
    corpus: Corpus,
    models: Sequence[Manifest],
    spec: Spec,
    cluster: Cluster,
    todo: Sequence[_Unit],
    stop: Callable[[], bool] | None,
) -> Any:
    from tasks.evaluate.predict import FeatureJob, PredictJob, feature_shard, predict_shard

    device = "cuda" if spec.run.device != "cpu" and cluster.offers("GPU") else "cpu"
    threads = max(1, cores() // cluster.slots)
    base = {"store": corpus.store.url, "ingest": corpus.manifest.key}
    nets, feats = [], []
    for unit in todo:
        if unit.model < 0:
            rows = tuple(np.flatnonzero(corpus.shards[unit.shard].labelled).tolist())
            feats.append(Job(unit.key, (FeatureJob(key=unit.key, shard=unit.shard, rows=rows, **base),)))
            continue
        model = models[unit.model]
        job = PredictJob(
            key=unit.key,
            shard=unit.shard,
            model_stage=model.stage,
            model_key=model.key,
            model_sha256=model.output(kind="model").sha256,
            batch=spec.run.predict_batch,
            threads=threads,
            device=device,
            **base,
        )
        nets.append(Job(unit.key, (job,)))
    for function, jobs, resources in (
        (feature_shard, feats, None),
        (predict_shard, nets, {"GPU": 1.0} if device == "cuda" else None),
    ):
        window = fan_out(cluster, function, jobs, attempts=spec.run.attempts, resources=resources, stop=stop)
        with closing(window) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome.error, StillroomError):
                    raise outcome.error
                if outcome.error is not None:
                    kind = PermanentError if isinstance(outcome.error, ValueError | TypeError) else TransientError
                    raise kind(f"evaluate, unit {outcome.job.key[:12]}: {outcome.error!r}") from outcome.error
                yield UnitRecord.from_bytes(outcome.value.to_bytes())
