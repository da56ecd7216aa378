"""What people see of a selection: lists for annotators, and a summary.

A list is a CSV and a small JPEG an image, as objects of the store:
`annotate/<corpus>/hardest-<sha8>.csv` and `label-errors-<sha8>.csv` name pictures below `thumbnails/`, relative to
the CSV, so that a copy of the folder opens anywhere. Pictures of patients stay in the store.
The summary is for Prefect: numbers and names of stored objects, no key and no picture.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from infra.storage.manifest import Manifest, Output
from infra.storage.stage_cache import StageCache
from tasks.data.corpus import Corpus, load_image
from tasks.select.ensemble import READERS, EnsembleStatistics
from tasks.select.ranking import LabelErrors, hardest

SIDE = 96
"""Longer side of a thumbnail in pixels; smaller images are not enlarged."""

QUALITY = 85
TOP_CLASSES = 3
HARDEST, ERRORS, THUMBNAIL = "hardest", "label-errors", "thumbnail"


def write_hardest(cache: StageCache, corpus: Corpus, found: EnsembleStatistics, count: int) -> list[Output]:
    """The list of hardest unlabelled images (`tasks.select.ranking.hardest`): the CSV first, then pictures.

    Columns: rank, key, entropy and disagreement (nats), confidence, top (classes with probabilities), shard (name in
    the store), row, thumbnail.
    """
    chosen = hardest(found, count)
    rows = [
        {
            "entropy": _figure(found.entropy[place]),
            "disagreement": _figure(found.disagreement[place]),
            "confidence": _figure(found.confidence[found.pool[place]]),
            "top": _top(found.probability[place], corpus.classes),
        }
        for place in chosen
    ]
    return _write(cache, corpus, found, HARDEST, found.pool[chosen], rows)


def write_errors(
    cache: StageCache, corpus: Corpus, found: EnsembleStatistics, errors: LabelErrors, count: int
) -> list[Output]:
    """The list of likely label errors (`tasks.select.ranking.find_label_errors`): the CSV first, then pictures.

    Columns: rank, key, given, suggested, margin, top (classes with probabilities of the out-of-fold teachers), shard
    (name in the store), row, thumbnail. Multilabel: a row a label, given and suggested are `NAME` and `not NAME`.
    """
    rows = []
    for row, given, suggested, margin in zip(
        errors.row[:count],
        errors.given[:count],
        errors.suggested[:count],
        errors.margin[:count],
        strict=True,
    ):
        own, other = corpus.classes[given], corpus.classes[suggested] if found.given.ndim == 1 else ""
        if not other:
            own, other = (f"not {own}", own) if suggested else (own, f"not {own}")
        rows.append(
            {
                "given": own,
                "suggested": other,
                "margin": _figure(margin),
                "top": _top(found.out_of_fold_probability[row], corpus.classes),
            }
        )
    return _write(cache, corpus, found, ERRORS, found.out_of_fold[errors.row[:count]], rows)


def _write(
    cache: StageCache,
    corpus: Corpus,
    found: EnsembleStatistics,
    kind: str,
    places: np.ndarray,
    rows: Sequence[dict[str, str]],
) -> list[Output]:
    """Thumbnails, then the CSV; `places` [L] into the training images, `rows` the columns of each."""
    if not rows:
        return []
    folder = f"annotate/{corpus.title}"

    def picture(place: int) -> Output:
        shard, row = corpus.shards[found.shard[place]], int(found.row[place])
        data = thumbnail(load_image(corpus.store, shard, row, cached=False))
        return cache.put_object(f"{folder}/thumbnails/{{sha}}.jpg", data, samples=1, meta={"kind": THUMBNAIL})

    with ThreadPoolExecutor(READERS) as threads:
        pictures = list(threads.map(picture, places.tolist()))
    sink = io.StringIO()
    table = csv.DictWriter(
        sink, ["rank", "key", *rows[0], "shard", "row", "thumbnail"], lineterminator="\n", quoting=csv.QUOTE_MINIMAL
    )
    table.writeheader()
    for rank, (place, row, shown) in enumerate(zip(places.tolist(), rows, pictures, strict=True), start=1):
        table.writerow(
            {
                "rank": rank,
                "key": str(found.key[place]),
                **row,
                "shard": corpus.shards[found.shard[place]].output.name,
                "row": int(found.row[place]),
                "thumbnail": shown.name.removeprefix(f"{folder}/"),
            }
        )
    listed = cache.put_object(
        f"{folder}/{kind}-{{sha8}}.csv", sink.getvalue().encode(), samples=len(rows), meta={"kind": kind}
    )
    return [listed, *pictures]


def thumbnail(image: np.ndarray) -> bytes:
    """JPEG of an RGB uint8 image [H, W, 3], its longer side at most SIDE."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return bytes(data)


def _top(prob: np.ndarray, classes: list[str]) -> str:
    order = np.argsort(-prob, kind="stable")[:TOP_CLASSES]
    return "; ".join(f"{classes[n]} {_figure(prob[n])}" for n in order)


def _figure(value: float) -> str:
    return f"{value:.4f}"


_LISTS = {HARDEST: "what the teachers find hardest", ERRORS: "likely label errors"}


def summary_text(manifest: Manifest) -> str:
    """One short page in Markdown from a select manifest."""
    facts = manifest.facts
    lines = [
        f"# Selection: {facts['kept']:,} training images kept, {facts['dropped']:,} dropped",
        "",
        f"{facts['unlabelled']:,} of them are unlabelled.",
    ]
    dropped = {rule: count for rule, count in facts["dropped_by_rule"].items() if count}
    if dropped:
        lines += ["", *_table(["rule", "dropped"], [[rule, f"{count:,}"] for rule, count in dropped.items()])]
    if facts["calibration"]:
        lines += ["", "## Calibration on validation", "", *_calibration(facts["calibration"], facts["temperatures"])]
    lines += ["", "## Classes of the pool", "", *_classes(facts), "", *_places(manifest)]
    return "\n".join(lines).rstrip() + "\n"


def _calibration(figures: Mapping[str, Mapping[str, Any]], temperatures: Mapping[str, float]) -> list[str]:
    names = list(dict.fromkeys(name for row in figures.values() for name in row))
    rows = [
        [teacher, _number(temperatures.get(teacher)), *(_number(row.get(name)) for name in names)]
        for teacher, row in figures.items()
    ]
    return _table(["teacher", "temperature", *(name.replace("_", " ") for name in names)], rows)


def _classes(facts: Mapping[str, Any]) -> list[str]:
    columns = {"share of the labels": "prior_by_class", "of the pool": "mass_by_class"}
    if facts["mass_unaligned"]:
        columns["of the pool before alignment"] = "mass_unaligned"
    rows = [
        [
            name,
            f"{facts['labelled_by_class'][name]:,}",
            *(_number(facts[column].get(name)) for column in columns.values()),
        ]
        for name in facts["labelled_by_class"]
    ]
    return _table(["class", "labelled", *columns], rows)


def _places(manifest: Manifest) -> list[str]:
    lines = []
    for kind, words in _LISTS.items():
        for output in manifest.outputs_where(kind=kind):
            lines.append(f"- {output.samples} of {words}, with thumbnails: `{output.name}`")
    why = manifest.facts.get("no_label_errors")
    return [*lines, f"- no list of label errors: {why}"] if why else lines


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
