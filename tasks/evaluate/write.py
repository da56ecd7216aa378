"""From predictions to the stored outputs: numbers, plots, the table of predictions, the report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.digest import canonical_json
from infra.errors import PermanentError
from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache
from models.statistics.metrics import FIT_FREE, assess, names, selecting_metric
from tasks.data.catalog import MISSING, QUARANTINED
from tasks.data.corpus import Corpus
from tasks.data.patients import images_without_patient
from tasks.drawing.plots import confusion_png, reliability_png
from tasks.evaluate.arms import Arm, Judged, Truth, better
from tasks.evaluate.baselines import BORDER_VALUES, THUMBNAIL_VALUES, linear, majority
from tasks.evaluate.by_corpus import corpora_of
from tasks.evaluate.grades import add_grades, judged_by
from tasks.evaluate.groups import groups_of
from tasks.evaluate.headline import headline
from tasks.evaluate.imageability import imageability
from tasks.evaluate.predicted_arms import arms_of, truth_of
from tasks.evaluate.report import ReportContext, markdown
from tasks.evaluate.results import shown_arm, summarise
from tasks.evaluate.scope import (
    DECIDED,
    JUDGED,
    averaged_views,
    decided_for,
    decision_unit,
    first_referred,
    is_phantom,
    kept_out,
    referred,
)
from tasks.evaluate.screening import screening
from tasks.evaluate.shifts import add_shifts
from tasks.evaluate.teacher_verdicts import teachers_on_validation
from tasks.evaluate.titles import title_of
from tasks.evaluate.units import Predictions
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY

PREDICTIONS = pa.schema(
    [
        ("arm", pa.string()),
        ("seed", pa.int32()),
        ("split", pa.string()),
        ("key", pa.string()),
        ("label", pa.int32()),
        ("labels", pa.list_(pa.int8())),
        ("prob", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Written:
    """Stored outputs and the facts of the manifest."""

    outputs: list[Output]
    facts: dict[str, Any]


def write_outputs(
    corpus: Corpus,
    models: Sequence[Manifest],
    spec: Spec,
    cache: StageCache,
    key: str,
    metric: str,
    found: Predictions,
    *,
    pool: str | None = None,
) -> Written:
    """Store everything under reports/<corpus>/<first 12 of the key>/.

    Args:
        pool: how many of its images taught, for the first lines.

    Raises:
        PermanentError: every labelled test image was left out.
    """
    val, test = (truth_of(corpus, split, found) for split in JUDGED)
    if not len(test):
        raise PermanentError(f"{corpus.title}: no labelled test image can be predicted; each kills its process")
    arms = arms_of(corpus, models, found)
    if spec.evaluate.baselines:
        arms += _baselines(corpus, val, test, found, selecting_metric(metric), spec.evaluate.bins)
    section = spec.evaluate
    facts = facts_of(corpus, arms, truth_of(corpus, "train", found), val, test, spec, metric, pool)
    for arm, views in averaged_views(spec).items():
        if arm in facts["arms"]:
            facts["arms"][arm]["views"] = 1 + views
    facts["corpus"] = corpus.title
    facts["phantom"] = is_phantom(spec)
    unpredicted = sum(map(len, found.left_out.values()))
    if unpredicted:
        facts["unpredicted"] = unpredicted
    shown, prob = shown_arm(arms, facts["best"])
    curves = [
        (f"{title_of(a.name)}, seed {a.seeds[0]}", a.test[0])
        for a in arms
        if a.name == LABELS_ONLY or a.name.startswith("teacher:")
    ]
    pictures = {
        "confusion": confusion_png(
            corpus.task,
            corpus.classes,
            prob,
            test.label,
            test.labels,
            f"Confusion matrix of the {shown}: {len(test)} test images of {corpus.title}",
        ),
        "reliability": reliability_png(
            corpus.task,
            [(shown, prob), *curves][:4],
            test.label,
            test.labels,
            section.bins,
            f"Reliability on {len(test)} test images of {corpus.title}",
        ),
    }
    folder = f"reports/{corpus.title}/{key[:12]}"

    def put(kind: str, ending: str, data: bytes, samples: int = 0) -> Output:
        name = f"{folder}/{kind}-{{sha8}}.{ending}"
        return cache.put_object(name, data, id=f"{key}-{kind}", unit=key, samples=samples, meta={"kind": kind})

    plots = {kind: put(kind, "png", data) for kind, data in pictures.items()}
    kept = kept_out(corpus)
    context = ReportContext(
        corpus=corpus.title,
        phantom=is_phantom(spec),
        counts=_counts(corpus),
        kept_out=kept[QUARANTINED],
        without_image=kept[MISSING],
        unpredicted=unpredicted,
        plots={kind: output.name.rpartition("/")[2] for kind, output in plots.items()},
        students=str(models[0].facts["model"]),
        shown=shown,
    )
    table, rows = _predictions(arms, val, test)
    outputs = [
        put("report", "md", markdown(facts, context).encode()),
        put("metrics", "json", canonical_json(facts) + b"\n"),
        *plots.values(),
        put("predictions", "parquet", table, rows),
    ]
    return Written(outputs, facts)


def facts_of(
    corpus: Corpus,
    arms: Sequence[Arm],
    train: Truth,
    val: Truth,
    test: Truth,
    spec: Spec,
    metric: str,
    pool: str | None = None,
) -> dict[str, Any]:
    """Every number of an evaluation: `summarise`, then metrics of grades or of shifted logits, `groups` where images
    have attributes (`groups_of`), `corpora` where there are several (`corpora_of`), `imageability` where it is known of
    test images whether they can be graded, `screening` where something is referred, the teachers on validation
    (`teachers_on_validation`), then `headline`.
    """
    section, classes = spec.evaluate, len(corpus.classes)
    first = first_referred(corpus, spec)
    main: Judged | None = None
    if metric in DECIDED:
        main = judged_by(metric, arms, val, test, classes, first)
    facts = summarise(
        corpus.task,
        corpus.classes,
        arms,
        val,
        test,
        metric=metric,
        resamples=section.bootstrap,
        bins=section.bins,
        main=main,
    )
    if corpus.task == "ordinal":
        facts = add_grades(facts, arms, val, test, referable=first, resamples=section.bootstrap, bins=section.bins)
    wanted = decided_for(corpus, spec)
    if wanted is not None:
        counts = np.bincount(train.label[train.label >= 0], minlength=classes)
        facts = add_shifts(
            facts, arms, val, test, metric=wanted, counts=counts, resamples=section.bootstrap, bins=section.bins
        )
    if main is None:
        main = Judged(metric, corpus.task, metric, arms, val, test)
    shown = main.arm(facts["best"]["arm"]) if facts["best"] else main.arms[0]
    if shown is not None:
        groups = groups_of(corpus.catalog, main, shown, resamples=section.bootstrap, bins=section.bins)
        corpora = corpora_of(corpus.catalog, main, resamples=section.bootstrap, bins=section.bins)
        facts = {
            **facts,
            **({"groups": groups} if groups["by"] else {}),
            **({"corpora": corpora} if corpora else {}),
        }
    facts = {**facts, "without_patient": images_without_patient(corpus.catalog)}
    facts = {**facts, "teachers_on_validation": teachers_on_validation(corpus, spec, arms, val)}
    gradable = imageability(corpus.catalog, resamples=section.bootstrap)
    if gradable is not None:
        facts["imageability"] = gradable
    refers = referred(corpus, spec)
    if refers is not None:
        facts["screening"] = screening(
            corpus.catalog,
            arms,
            val,
            test,
            referred=refers,
            unit=decision_unit(corpus, spec),
            aggregate=section.aggregate,
            resamples=section.bootstrap,
        )
    if pool is not None:
        facts = {**facts, "pool": pool}
    return {**facts, "headline": headline(facts)}


def _baselines(
    corpus: Corpus,
    val: Truth,
    test: Truth,
    found: Predictions,
    metric: str,
    bins: int,
) -> list[Arm]:
    train = truth_of(corpus, "train", found)
    task, classes = corpus.task, len(corpus.classes)

    def rows(split: str, kind: str, width: int) -> np.ndarray:
        parts = [
            found.features[i][kind][found.judged(i, s)[s.labelled]]
            for i, s in enumerate(corpus.shards)
            if s.split == split and i in found.features
        ]
        return np.concatenate(parts) if parts else np.zeros((0, width), dtype=np.float32)

    if metric not in names(task):
        metric = FIT_FREE[task]

    def score(prob: np.ndarray) -> float | None:
        value = assess(task, prob, val.label, val.labels, bins=bins).values[metric]
        return None if value is None else better(metric, value)

    def arm(name: str, on_val: np.ndarray, on_test: np.ndarray) -> Arm:
        return Arm(name, seeds=(0,), val=(on_val,), test=(on_test,))

    prior = [majority(task, train.label, train.labels, classes, len(truth)) for truth in (val, test)]
    arms = [arm("majority", *prior)]
    for name, kind, width in (
        ("thumbnails", "thumbnail", THUMBNAIL_VALUES),
        ("borders", "border", BORDER_VALUES),
    ):
        seen, *others = (rows(split, kind, width) for split in ("train", "val", "test"))
        probabilities_of = linear(task, seen, train.label, train.labels, others, classes, score)
        arms.append(arm(name, *probabilities_of))
    return arms


def _counts(corpus: Corpus) -> dict[str, dict[str, int]]:
    counts = {}
    for split in ("train", "val", "test"):
        shards = corpus.of_split(split)
        counts[split] = {
            "images": sum(int(s.used.sum()) for s in shards),
            "labelled": sum(int(s.labelled.sum()) for s in shards),
            "patients": len({p for s in shards for p in s.patient[s.used].tolist()}),
        }
    return counts


def _predictions(arms: Sequence[Arm], val: Truth, test: Truth) -> tuple[bytes, int]:
    tables = []
    for arm in arms:
        for i, seed in enumerate(arm.seeds):
            for split, truth, prob in (("val", val, arm.val[i]), ("test", test, arm.test[i])):
                n = len(truth)
                columns = {
                    "arm": [arm.name] * n,
                    "seed": [seed] * n,
                    "split": [split] * n,
                    "key": truth.keys.tolist(),
                    "label": truth.label.tolist(),
                    "labels": truth.labels.tolist() if truth.labels is not None else [None] * n,
                    "prob": prob.astype(np.float32).tolist(),
                }
                tables.append(pa.Table.from_pydict(columns, schema=PREDICTIONS))
    table = pa.concat_tables(tables)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue(), table.num_rows
