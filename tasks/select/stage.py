"""The select stage: policy over stored soft labels, at no teacher time.

Order of work: calibrate the teachers (`calibrate.py`), read every soft label of the training split once
(`survey.py`), weigh the unlabelled pool (`policy.py`), list what annotators should see (`annotate.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.data.catalog import to_parquet
from tasks.data.corpus import Corpus
from tasks.data.sample_weights import WEIGHTS
from tasks.data.soft_label_reader import Teaching
from tasks.pipeline.result import StageResult
from tasks.select.calibrate import calibrate
from tasks.select.label_errors import suspect
from tasks.select.policy import Claims, Weighed, weigh
from tasks.select.prior import labelled_counts, mass, prior, shares
from tasks.select.survey import Survey, survey
from tasks.spec import SelectSection

STAGE = "select"
VERSION = 2


def select(corpus: Corpus, label_manifests: Sequence[Manifest], section: SelectSection, store: Store) -> StageResult:
    """Calibrate the teachers, weigh the training samples and list what is worth an annotator's time.

    Labelled samples keep weight 1, whatever teachers say. An unlabelled one gets 0 where some teacher could not
    speak, and else what the rules of the section say, in the order of `tasks/select/policy.py`.

    Outputs by `meta["kind"]`: `weights` (Parquet, schema WEIGHTS); `hardest` and `label-errors` (CSV) with their
    `thumbnail`s, where there is something to list.

    Raises:
        UsageError: no label manifest, no training sample, views that are not stored or are mixed, alignment
            without a labelled training sample.
        CorruptError: a soft-label file or an image to show is not what its manifest promises.
    """
    if not label_manifests:
        raise UsageError("select needs the soft labels of at least one teacher")
    catalog = corpus.manifest.output(kind="catalog")
    inputs = [catalog.id, *(shard.id for shard in corpus.shards), *(m.key for m in label_manifests)]
    key = unit_key(STAGE, VERSION, inputs=inputs, section=section.identity())
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key)
    if hit is not None and hit.whole:
        return StageResult(hit.manifest, made=0, total=1)

    teaching = Teaching(corpus, label_manifests)
    _check_views(label_manifests, section.views)
    count, known = labelled_counts(corpus)
    if section.align is not None and not known.any():
        raise UsageError(f"select.align: corpus {corpus.title} has no labelled training image to take a prior from")
    temperatures, calibration = calibrate(corpus, teaching, fit=section.calibrate)
    judges = [n for n, m in enumerate(label_manifests) if m.facts.get("folds", 0) >= 2 and section.label_errors]
    found = survey(corpus, teaching, temperatures, views=section.views, judges=judges)
    claims = Claims(found, corpus.classes, many=corpus.task == "multilabel")
    weighed = weigh(found, section, claims, prior(count, known))

    outputs = [_write_weights(cache, corpus, found, weighed, key)]
    listed, told = _lists(cache, corpus, found, section, [teaching.teachers[n] for n in judges])
    # Two images alike have one thumbnail.
    outputs += {output.name: output for output in listed}.values()
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=inputs,
        section=section.identity(),
        outputs=outputs,
        facts={
            "temperatures": temperatures,
            "calibration": calibration,
            **_facts(corpus, found, weighed, claims),
            "labelled_by_class": dict(zip(corpus.classes, count.tolist(), strict=True)),
            "prior_by_class": shares(prior(count, known), corpus.classes),
            **told,
        },
    )
    return StageResult(cache.commit(manifest), made=1, total=1)


def _check_views(manifests: Sequence[Manifest], views: int) -> None:
    for manifest in manifests:
        stored = max((o.meta["view"] for o in manifest.outputs_where(kind="soft", split="train")), default=0)
        if views > stored:
            raise UsageError(
                f"select.views is {views}, but teacher {manifest.section['teacher']} has {stored} random views of "
                "training images: lower it, or raise views.count and label again"
            )


def _write_weights(cache: StageCache, corpus: Corpus, found: Survey, weighed: Weighed, key: str) -> Output:
    weight = np.ones(len(found.key), np.float32)
    weight[found.pool] = weighed.weight
    table = pa.table({"key": pa.array(found.key, pa.string()), "weight": weight, "confidence": found.confidence})
    return cache.put_object(
        f"weights/{corpus.title}/{{sha}}.parquet",
        to_parquet(table, WEIGHTS),
        samples=table.num_rows,
        unit=key,
        meta={"kind": "weights"},
    )


def _facts(corpus: Corpus, found: Survey, weighed: Weighed, claims: Claims) -> dict[str, Any]:
    kept = weighed.weight[weighed.weight > 0]
    return {
        "kept": len(found.key) - len(found.pool) + len(kept),
        "dropped": len(found.pool) - len(kept),
        "dropped_by_rule": weighed.dropped,
        "unlabelled": len(found.pool),
        "pool_weight": {
            "sum": round(float(kept.sum(dtype=np.float64)), 1),
            "least": round(float(kept.min(initial=np.inf)), 4) if len(kept) else None,
            "most": round(float(kept.max(initial=0)), 4) if len(kept) else None,
        },
        "pool_by_class": claims.counts(weighed.weight),
        "mass_by_class": shares(mass(found, weighed.weight), corpus.classes),
        "thresholds": weighed.thresholds,
        "mass_unaligned": (
            shares(mass(found, weighed.unaligned), corpus.classes) if weighed.unaligned is not None else {}
        ),
    }


def _lists(
    cache: StageCache, corpus: Corpus, found: Survey, section: SelectSection, judges: list[str]
) -> tuple[list[Output], dict[str, Any]]:
    """Objects of the two lists, and facts about them."""
    # OpenCV takes a fifth of a second to import, which `plan` need not pay.
    from tasks.select.annotate import write_errors, write_hardest

    outputs = write_hardest(cache, corpus, found, section.hardest)
    told: dict[str, Any] = {"hardest": outputs[0].samples if outputs else 0, "judges": judges}
    if not section.label_errors:
        told["no_label_errors"] = "select.label_errors is 0"
    elif not judges:
        told["no_label_errors"] = (
            "every teacher learned the labels of these images: only fold teachers (teachers.folds) can judge them"
        )
    elif not len(found.judged):
        told["no_label_errors"] = "the fold teachers could judge no labelled training image"
    else:
        suspicions = suspect(found.verdict, found.given, found.key[found.judged])
        told["label_errors"] = len(suspicions)
        outputs += write_errors(cache, corpus, found, suspicions, section.label_errors)
    return outputs, told
