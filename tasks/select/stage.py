"""The select stage: policy over stored soft labels, at no teacher time.

Order of work: calibrate the teachers and read every soft label of the training split once (`ensemble.py`), weigh the
unlabelled pool (`policy.py`), list what annotators should see (`ranking.py`, `report.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache
from tasks.data.catalog import SAMPLE_WEIGHTS, to_parquet
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabelReader
from tasks.drawing.pool_text import pool_text
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage
from tasks.select.class_prior import labelled_counts, mass, prior, shares
from tasks.select.ensemble import EnsembleStatistics, calibrate, check_single, ensemble_statistics
from tasks.select.policy import PoolWeights, PseudoClasses, pool_weights
from tasks.select.ranking import find_label_errors
from tasks.spec import SelectSection, Spec

STAGE = "select"
VERSION = 2


class Selection(StageWork):
    """Calibrate the teachers, weigh the training samples and list what is worth an annotator's time.

    Labelled samples keep weight 1, whatever teachers predict. An unlabelled one gets 0 where some teacher has no valid
    prediction, and else what the rules of the section say, in the order of `tasks/select/policy.py`.

    Outputs by `meta["kind"]`: `weights` (Parquet, schema SAMPLE_WEIGHTS); `hardest` and `label-errors` (CSV) with their
    `thumbnail`s, where there is something to list.

    Raises:
        UsageError: no label manifest, no training sample, views that are not stored or are mixed, alignment
            without a labelled training sample.
        CorruptError: a soft-label file or an image to show is not what its manifest promises.
    """

    stage, version = STAGE, VERSION

    def __init__(
        self, context: Context, corpus: Corpus, label_manifests: Sequence[Manifest], section: SelectSection
    ) -> None:
        super().__init__(context)
        if not label_manifests:
            raise UsageError("select needs the soft labels of at least one teacher")
        self.corpus, self.labels, self.section = corpus, label_manifests, section
        catalog = corpus.manifest.output(kind="catalog")
        self.inputs = [catalog.id, *(shard.id for shard in corpus.shards), *(m.key for m in label_manifests)]

    @cached_property
    def key(self) -> str:
        return unit_key(STAGE, VERSION, inputs=self.inputs, section=self.section.identity())

    def count(self, manifest: Manifest) -> int:
        return 1

    def says(self, manifest: Manifest) -> str:
        return pool_text(manifest.facts)

    def make(self) -> Made:
        corpus, section = self.corpus, self.section
        reader = SoftLabelReader(corpus, self.labels)
        _check_views(reader, section.views)
        count, known = labelled_counts(corpus)
        if section.align is not None and not known.any():
            raise UsageError(f"select.align: corpus {corpus.title} has no labelled training image to take a prior from")
        temperatures, calibration = calibrate(corpus, reader, fit=section.calibrate, views=section.views)
        fold_teachers = [n for n, m in enumerate(self.labels) if m.facts.get("folds", 0) >= 2 and section.label_errors]
        found = ensemble_statistics(corpus, reader, temperatures, views=section.views, fold_teachers=fold_teachers)
        pseudo = PseudoClasses(found, corpus.classes, many=corpus.task == "multilabel")
        weights = pool_weights(found, section, pseudo, prior(count, known))

        outputs = [_write_weights(self.cache, corpus, found, weights, self.key)]
        listed, more = _lists(self.cache, corpus, found, section, [reader.teachers[n] for n in fold_teachers])
        # Two images alike have one thumbnail.
        outputs += {output.name: output for output in listed}.values()
        facts = {
            "temperatures": temperatures,
            "calibration": calibration,
            **_facts(corpus, found, weights, pseudo),
            "labelled_by_class": dict(zip(corpus.classes, count.tolist(), strict=True)),
            "prior_by_class": shares(prior(count, known), corpus.classes),
            **more,
        }
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=self.inputs,
            section=section.identity(),
            outputs=outputs,
            facts=facts,
        )
        return Made(manifest, made=1, total=1)

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        from tasks.select.report import summary_text

        return [] if result.cached else [Artifact("selection", "Weights of the pool", summary_text(result.manifest))]


def select(
    context: Context, corpus: Corpus, label_manifests: Sequence[Manifest], section: SelectSection
) -> StageResult:
    """Run the stage; see `Selection`."""
    return run_stage(Selection(context, corpus, label_manifests, section))


def _bind(context: Context, spec: Spec, *, corpus: Manifest, labels: Sequence[Manifest]) -> Selection:
    return Selection(context, Corpus(context.store, corpus), labels, spec.select)


SELECT = Stage("select", _bind, folders=("weights/", "annotate/"))


def _check_views(reader: SoftLabelReader, views: int) -> None:
    if not views:
        return
    for manifest in reader.manifests:
        teacher = manifest.section["teacher"]
        stored = _stored_views(manifest, "train")
        if views > stored:
            raise UsageError(
                f"select.views is {views}, but teacher {teacher} has {stored} random views of training images: lower "
                "it, or raise views.count and label again"
            )
    check_single(reader.rows(_first(reader.corpus, "train"), 1), views)
    for manifest in reader.manifests if any(reader.corpus.of_split("val")) else ():
        if views > _stored_views(manifest, "val"):
            raise UsageError(
                f"select.views is {views}, but teacher {manifest.section['teacher']} has "
                f"{_stored_views(manifest, 'val')} random views of validation images: label again with this spec"
            )


def _stored_views(manifest: Manifest, split: str) -> int:
    return max((int(o.meta["view"]) for o in manifest.outputs_where(kind="soft", split=split)), default=0)


def _first(corpus: Corpus, split: str) -> int:
    return next(number for number, shard in enumerate(corpus.shards) if shard.split == split)


def _write_weights(
    cache: StageCache, corpus: Corpus, found: EnsembleStatistics, weights: PoolWeights, key: str
) -> Output:
    weight = found.used.astype(np.float32)
    weight[found.pool] = weights.weight
    table = pa.table({"key": pa.array(found.key, pa.string()), "weight": weight, "confidence": found.confidence})
    return cache.put_object(
        f"weights/{corpus.title}/{{sha}}.parquet",
        to_parquet(table, SAMPLE_WEIGHTS),
        samples=table.num_rows,
        unit=key,
        meta={"kind": "weights"},
    )


def _facts(corpus: Corpus, found: EnsembleStatistics, weights: PoolWeights, pseudo: PseudoClasses) -> dict[str, Any]:
    kept = weights.weight[weights.weight > 0]
    return {
        "kept": int(found.used.sum()) - len(found.pool) + len(kept),
        "dropped": len(found.pool) - len(kept),
        "dropped_by_rule": weights.dropped,
        "unlabelled": len(found.pool),
        "pool_weight": {
            "sum": round(float(kept.sum(dtype=np.float64)), 1),
            "least": round(float(kept.min(initial=np.inf)), 4) if len(kept) else None,
            "most": round(float(kept.max(initial=0)), 4) if len(kept) else None,
        },
        "pool_by_class": pseudo.counts(weights.weight),
        "mass_by_class": shares(mass(found, weights.weight), corpus.classes),
        "thresholds": weights.thresholds,
        "mass_unaligned": (
            shares(mass(found, weights.unaligned), corpus.classes) if weights.unaligned is not None else {}
        ),
    }


def _lists(
    cache: StageCache, corpus: Corpus, found: EnsembleStatistics, section: SelectSection, fold_teachers: list[str]
) -> tuple[list[Output], dict[str, Any]]:
    """Objects of the two lists, and facts about them."""
    # OpenCV takes a fifth of a second to import, which `plan` need not pay.
    from tasks.select.report import write_errors, write_hardest

    outputs = write_hardest(cache, corpus, found, section.hardest)
    more: dict[str, Any] = {"hardest": outputs[0].samples if outputs else 0, "judges": fold_teachers}
    if not section.label_errors:
        more["no_label_errors"] = "select.label_errors is 0"
    elif not fold_teachers:
        more["no_label_errors"] = (
            "every teacher learned the labels of these images: only fold teachers (teachers.folds) can judge them"
        )
    elif not len(found.out_of_fold):
        more["no_label_errors"] = "the fold teachers could judge no labelled training image"
    else:
        errors = find_label_errors(found.out_of_fold_probability, found.given, found.key[found.out_of_fold])
        more["label_errors"] = len(errors)
        outputs += write_errors(cache, corpus, found, errors, section.label_errors)
    return outputs, more
