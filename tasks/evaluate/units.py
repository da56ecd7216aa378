"""The units of an evaluation: logits of each model and features of the labelled images, a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays

from infra.compute.cluster import cores
from infra.compute.fan_out import Job, Outcome
from infra.digest import digest_of, unit_key
from infra.errors import is_killed
from infra.storage.manifest import Manifest, Quarantined
from infra.storage.stage_cache import UnitRecord
from models.augmentation.draws import ViewRecipe
from tasks.data.corpus import Corpus, Shard
from tasks.data.soft_labels import mean_logits
from tasks.evaluate.scope import JUDGED, PREDICT_STAGE, averaged_views, random_views
from tasks.pipeline.context import Context
from tasks.pipeline.stage import UnitCount
from tasks.pipeline.units import outcomes, without_poison
from tasks.spec import Spec

VERSION = 1


@dataclass(frozen=True)
class Predictions:
    """What the models and the baselines are judged by.

    Attributes:
        logits: by (model, number of the shard): float32 [N, C] of all rows, NaN where a row was left out; where a
            teacher is judged by several views, those of its mean probabilities.
        features: by number of the shard: `thumbnail` and `border` of its labelled rows.
        left_out: by number of the shard: rows that cannot be predicted, and why.
    """

    logits: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    features: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    left_out: dict[int, dict[int, str]] = field(default_factory=dict)

    def judged(self, number: int, shard: Shard) -> np.ndarray:
        """bool [N]: labelled rows of a shard that can be predicted; the same for every model."""
        mask = shard.labelled.copy()
        mask[list(self.left_out.get(number, ()))] = False
        return mask

    def quarantine(self, corpus: Corpus) -> list[Quarantined]:
        """Images that were left out, by key."""
        rows = {
            str(corpus.shards[number].keys[row]): reason
            for number, reasons in self.left_out.items()
            for row, reason in reasons.items()
        }
        return [Quarantined(source=key, reason=rows[key], stage=PREDICT_STAGE) for key in sorted(rows)]


@dataclass(frozen=True)
class _Unit:
    """One job: logits of (model, shard), or features of a shard when the model is -1."""

    key: str
    model: int
    shard: int
    view: int = 0
    recipe: ViewRecipe | None = None  # of a random view


def count_units(
    context: Context, corpus: Corpus, models: Sequence[Manifest], spec: Spec, splits: Sequence[str] = JUDGED
) -> UnitCount:
    """How many units the store has; arguments as `predict_all`."""
    units = _units(corpus, models, spec, splits)
    return UnitCount(len(_recorded(context, units)), len(units))


def predict_all(
    context: Context, corpus: Corpus, models: Sequence[Manifest], spec: Spec, splits: Sequence[str] = JUDGED
) -> Predictions:
    """Logits and features, made on the cluster where the store has none yet.

    Args:
        splits: of the images that are predicted. The baselines are of a whole evaluation: fewer splits need none.

    Raises:
        UsageError, CorruptError, PermanentError, TransientError: see `tasks.evaluate.stage.Evaluation`.
        CancelledError: the run was asked to stop.
    """
    units = _units(corpus, models, spec, splits)
    done = _recorded(context, units)
    # A shard of several splits is one unit of each: they are the same.
    missing = list({unit.key: unit for unit in units if unit.key not in done}.values())
    context.progress(len(done), len(units))
    if missing:
        for record in _make(context, corpus, models, missing):
            done[record.key] = record
            context.progress(len(done), len(units))
    found = Predictions()
    views: dict[tuple[int, int], list[np.ndarray]] = {}
    for unit in units:
        record = done[unit.key]
        arrays = load_arrays(context.store.get(record.outputs[0].name))
        if unit.model >= 0:
            views.setdefault((unit.model, unit.shard), []).append(arrays["logits"])
        else:
            found.features[unit.shard] = arrays
        if record.quarantine:
            row_of = {str(key): row for row, key in enumerate(corpus.shards[unit.shard].keys)}
            reasons = found.left_out.setdefault(unit.shard, {})
            reasons.update({row_of[each.source]: each.reason for each in record.quarantine})
    found.logits.update({place: _mean(logits, corpus.task) for place, logits in views.items()})
    return found


def _mean(views: Sequence[np.ndarray], task: str) -> np.ndarray:
    """Logits of the mean probabilities over views; NaN in rows that are NaN in some view."""
    if len(views) == 1:
        return views[0]
    known = np.all([np.isfinite(logits).all(axis=1) for logits in views], axis=0)
    mean = mean_logits([(np.where(known[:, None], z, 0), known) for z in views], many=task == "multilabel")
    return np.where(known[:, None], mean, np.nan).astype(np.float32)


def _units(corpus: Corpus, models: Sequence[Manifest], spec: Spec, splits: Sequence[str]) -> list[_Unit]:
    units = []
    averaged = averaged_views(spec)
    judged = [(i, s) for i, s in enumerate(corpus.shards) if s.split in splits and s.labelled.any()]
    for m, model in enumerate(models):
        used = ("model", "options", "view_size", "input_size", "mean", "std")
        section = {k: model.facts[k] for k in used}
        weights = [model.output(kind="model").id]
        recipe = random_views(corpus, spec, int(model.facts["view_size"]))
        for view in range(1 + averaged.get(str(model.facts["arm"]), 0)):
            own = {**section, "view": view, **({"recipe": recipe.recipe_id} if view else {})}
            for i, shard in judged:
                key = unit_key("predict", VERSION, inputs=[shard.id], section=own, weights=weights)
                units.append(_Unit(key, m, i, view, recipe if view else None))
    if spec.evaluate.baselines and set(JUDGED) <= set(splits):
        for i, shard in enumerate(corpus.shards):
            if shard.labelled.any():
                section = {"rows": digest_of(np.flatnonzero(shard.labelled).tolist())}
                units.append(_Unit(unit_key("features", VERSION, inputs=[shard.id], section=section), -1, i))
    return units


def _recorded(context: Context, units: Sequence[_Unit]) -> dict[str, UnitRecord]:
    run = context.run
    found = context.cache.recorded(PREDICT_STAGE, [unit.key for unit in units], verify=run.verify)
    return {key: record for key, record in found.items() if not (run.retry_quarantined and record.quarantine)}


def _make(
    context: Context, corpus: Corpus, models: Sequence[Manifest], missing: Sequence[_Unit]
) -> Iterator[UnitRecord]:
    from tasks.evaluate import predict

    device, resources = context.place()
    threads = max(1, cores() // context.cluster.slots)
    store, name = corpus.store.url, corpus.manifest.name
    names: dict[str, str] = {}
    rows: dict[str, Sequence[int]] = {}
    networks, features = [], []
    for unit in missing:
        shard = corpus.shards[unit.shard]
        if unit.model < 0:
            labelled = tuple(np.flatnonzero(shard.labelled).tolist())
            rows[unit.key] = labelled
            names[unit.key] = f"features of {shard.output.name}"
            features.append(Job(unit.key, (predict.FeatureJob(unit.key, store, name, unit.shard, labelled),)))
            continue
        rows[unit.key] = range(len(shard))
        model = models[unit.model]
        seen = f"view {unit.view} of {shard.output.name}" if unit.view else shard.output.name
        names[unit.key] = f"predictions of {model.facts['arm']} seed {model.facts['seed']} on {seen}"
        job = predict.PredictJob(
            key=unit.key,
            store=store,
            corpus=name,
            shard=unit.shard,
            model_stage=model.stage,
            model_key=model.key,
            model_sha256=model.output(kind="model").sha256,
            batch=context.run.predict_batch,
            threads=threads,
            device=device,
            view=unit.view,
            recipe=unit.recipe,
        )
        networks.append(Job(unit.key, (job,)))
    for function, probe, jobs, needs in (
        (predict.feature_shard, predict.probe_features, features, None),
        (predict.predict_shard, predict.probe_predictions, networks, resources),
    ):
        yield from _run(context, function, probe, jobs, needs, names, rows)


def _run(
    context: Context,
    function: Callable[[Any], UnitRecord],
    probe: Callable[[Any, Sequence[int]], None],
    jobs: Sequence[Job],
    resources: dict[str, float] | None,
    names: Mapping[str, str],
    rows: Mapping[str, Sequence[int]],
) -> Iterator[UnitRecord]:
    """Records of the jobs; those that kill their workers are run again at the end, without the rows that do it."""
    killed: list[Job] = []
    for outcome in outcomes(context, function, jobs, describe=lambda job: names[job.key], resources=resources):
        if is_killed(outcome.error):
            killed.append(outcome.job)
        elif outcome.error is not None:
            raise outcome.error
        else:
            yield UnitRecord.from_bytes(outcome.value.to_bytes())
    for job in killed:
        context.message(f"{names[job.key]}: workers die of it; searching for the images that kill them")
        once = partial(_run_once, context, job.key, names[job.key], resources)
        (payload,) = job.args
        record = without_poison(once, function, probe, payload, rows[job.key], names[job.key])
        yield UnitRecord.from_bytes(record.to_bytes())


def _run_once(
    context: Context,
    key: str,
    name: str,
    resources: dict[str, float] | None,
    function: Callable[..., Any],
    payload: Any,
    more: tuple[Any, ...],
) -> Outcome:
    """Call `function(payload, *more)` on a worker."""
    job = Job(key, (payload, *more))
    (outcome,) = outcomes(context, function, [job], describe=lambda _: name, resources=resources)
    return outcome
