"""What a finished training leaves in the store: the model, its history and the facts of both."""

from __future__ import annotations

import math
from typing import Any

from safetensors.torch import save

from infra.digest import canonical_json
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.distill.assemble import Assembled
from tasks.distill.checkpoints import History
from tasks.distill.training_job import TrainJob


def store_training(store: Store, corpus: Corpus, job: TrainJob, ready: Assembled, history: History) -> UnitRecord:
    """Store weights and history, then the unit's record.

    Facts: what rebuilds the network and feeds it (model, options, classes, sizes, mean, std), `steps` that were run,
    `stopped` (the step at which early stop ended it, else None), and `best`: the row of the history that the kept
    weights belong to.
    """
    cache, built, trainer = StageCache(store), ready.built, ready.trainer
    arm = job.arm.replace(":", "-")
    folder = f"models/{corpus.title}/{job.key[:16]}"
    model = cache.put_object(
        f"{folder}/{arm}-seed{job.seed}-{{sha8}}.safetensors",
        save(trainer.weights()),
        id=job.key,
        unit=job.key,
        meta={"kind": "model"},
    )
    curve = cache.put_object(
        f"{folder}/history-{{sha8}}.json",
        canonical_json(history),
        id=f"{job.key}-history",
        unit=job.key,
        meta={"kind": "history"},
    )
    facts = {
        "model": job.model,
        "options": ready.options,
        "num_classes": len(corpus.classes),
        "classes": corpus.classes,
        "task": corpus.task,
        "input_size": job.input_size,
        "mean": list(built.mean),
        "std": list(built.std),
        "view_size": int(job.views["size"]),
        "arm": job.arm,
        "seed": job.seed,
        "steps": trainer.step,
        "stopped": trainer.step if trainer.step < job.config.steps else None,
        "parameters": sum(p.numel() for p in built.module.parameters()),
        "best": best_row(history, job),
        "head_reset": built.head_reset,
    }
    record = UnitRecord(job.key, (model, curve), facts=facts)
    cache.record(job.stage, record)
    return record


def best_row(history: History, job: TrainJob) -> dict[str, Any]:
    """The row that the kept weights belong to: of the best validation (the first of equals), or the last one."""
    judged = [row for row in history if job.metric in row]
    if job.config.keep != "best" or not judged:
        return history[-1] if history else {}
    sign = 1 if job.config.higher_is_better else -1
    return max(judged, key=lambda row: sign * row[job.metric])


def history_row(step: int, means: dict[str, float], epoch: float) -> dict[str, Any]:
    """One log point; what is no number is left out.

    Args:
        epoch: how often the images were seen by then.
    """
    finite = {name: round(value, 6) for name, value in means.items() if math.isfinite(value)}
    return {"step": step, **finite, "epoch": round(epoch, 4)}
