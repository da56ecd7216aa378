"""The text of a label card: the part that may leave the store, and the part that may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.storage.manifest import Manifest
from models.statistics.counts import quadratic_kappa
from tasks.data.corpus import Corpus, Shard
from tasks.drawing.markdown import PHANTOM, cell_text, table_text
from tasks.label.label_statistics import BINS, LabelStatistics, accuracy, balanced, kappa

TOP = 2  # classes named beside an uncertain image
MOST_KEPT_OUT = 200
_DECIDED = "A label counts as named where its probability is at least 0.5."


@dataclass(frozen=True)
class LabelRunFigures:
    """Work of the label stage in one run, all teachers together."""

    seconds: float  # from the start of the first teacher to the end of the last
    made: int  # units (shard, teacher, view) made in this run
    found: int  # units found in the store
    images: int  # views of images predicted in this run, once for each teacher


def body(corpus: Corpus, manifests: Sequence[Manifest], figures: LabelRunFigures, counts: LabelStatistics) -> str:
    """Everything but what names images, as Markdown that ends with a line break."""
    phantom = str(corpus.manifest.section.get("corpus", {}).get("adapter", "")).startswith("phantom-")
    names = [cell_text(str(manifest.section["teacher"])) for manifest in manifests]
    together = "between teachers" if len(names) > 1 else "between views"
    parts = [
        f"# {corpus.title}: label card",
        *([PHANTOM] if phantom else []),
        _work(corpus, manifests, figures),
        "## Teachers\n\n" + _teachers(manifests, names),
        "## Accuracy on validation\n\n" + _accuracy(corpus, counts, names),
        f"## Agreement {together}\n\n" + (_agreement(corpus, counts, names) if len(names) > 1 else _views(counts)),
        "## Classes of the unlabelled pool\n\n" + _classes(corpus, counts),
        "## Confidence\n\n" + _confidence(counts),
    ]
    return "\n\n".join(parts) + "\n"


def pictures(corpus: Corpus, manifests: Sequence[Manifest], counts: LabelStatistics, files: Mapping[str, str]) -> str:
    """The part that stays in the store: plots, the most uncertain images, the samples kept out.

    Args:
        files: kind of picture to its file name beside the page.
    """
    parts = [f"![{kind}]({name})" for kind, name in files.items()]
    if counts.uncertain:
        rows = [
            [str(rank), image.key, _known(corpus, image.shard, image.row), f"{image.entropy:.3f}", ", ".join(lines[1:])]
            for rank, (image, lines) in enumerate(zip(counts.uncertain, captions(corpus, counts), strict=True), 1)
        ]
        head = ["", "image", "label", "entropy, nats", "likeliest"]
        unit = "mean entropy of the labels' probabilities" if counts.many else "entropy of the mean probability"
        parts.append(f"### Most uncertain training images\n\nBy the {unit}.\n\n" + table_text(head, rows))
    out = [
        [cell_text(str(manifest.section["teacher"])), cell_text(sample.source), cell_text(sample.reason)]
        for manifest in manifests
        for sample in manifest.quarantine
    ]
    if out:
        more = f"\n\n{len(out) - MOST_KEPT_OUT} more in the label manifests." if len(out) > MOST_KEPT_OUT else ""
        table = table_text(["teacher", "sample", "reason"], out[:MOST_KEPT_OUT])
        parts.append(f"### Samples kept out\n\n{table}{more}")
    return "\n\n".join(parts) + "\n"


def places(names: Mapping[str, str]) -> str:
    """Where the rest lies, by kind: names of stored objects, which only who can read the store can open."""
    titles = {
        "page": "this page with pictures, images by key and samples kept out",
        "classes": "plot of the classes",
        "confidence": "plot of the confidence",
        "uncertain": "contact sheet of the most uncertain training images",
    }
    lines = [f"- {titles[kind]}: `{names[kind]}`" for kind in titles if kind in names]
    return "## Where it is stored\n\nIn the store:\n\n" + "\n".join(lines) + "\n"


def captions(corpus: Corpus, counts: LabelStatistics) -> list[list[str]]:
    """For each uncertain image its key and its likeliest classes with their probabilities."""
    return [
        [image.key, *(f"{image.prob[n]:.2f} {corpus.classes[n]}" for n in np.argsort(-image.prob)[:TOP])]
        for image in counts.uncertain
    ]


def _known(corpus: Corpus, shard: Shard, row: int) -> str:
    if shard.labels is not None:
        return cell_text(", ".join(corpus.classes[n] for n in np.flatnonzero(shard.labels[row] == 1))) or "-"
    return cell_text(corpus.classes[shard.label[row]]) if shard.label[row] >= 0 else "-"


def _work(corpus: Corpus, manifests: Sequence[Manifest], figures: LabelRunFigures) -> str:
    splits = {split: sum(len(s) for s in corpus.of_split(split)) for split in ("train", "val", "test")}
    views = max((o.meta["view"] for m in manifests for o in m.outputs_where(kind="soft")), default=0)
    predictions = sum(o.samples for m in manifests for o in m.outputs_where(kind="soft"))
    units = figures.made + figures.found
    lines = [
        f"- {sum(splits.values()):,} images (" + ", ".join(f"{n:,} {split}" for split, n in splits.items()) + f") in "
        f"{len(corpus.shards):,} shards",
        f"- a plain view of each and {views} random views of each training image, {len(manifests)} "
        f"teacher{'s' * (len(manifests) != 1)}: {predictions:,} predictions",
        f"- cache: {figures.found:,} of {units:,} units (shard, teacher, view) found, {figures.made:,} made",
    ]
    if figures.images and figures.seconds > 0:
        rate = figures.images / figures.seconds
        lines.append(f"- {figures.images:,} predictions in {figures.seconds:,.1f} s: {rate:,.1f} images/s")
    return "\n".join(lines)


def _teachers(manifests: Sequence[Manifest], names: Sequence[str]) -> str:
    ran, rows = [], []
    for manifest, name in zip(manifests, names, strict=True):
        given = manifest.facts.get("engines", [])
        ran += [[name, *_engine(row)] for row in given] or [[name, *["-"] * 7]]
        soft = manifest.outputs_where(kind="soft")
        invalid, predictions = sum(o.meta["invalid"] for o in soft), sum(o.samples for o in soft)
        rows.append([name, f"{predictions:,}", f"{invalid:,}", f"{len(manifest.quarantine):,}"])
    against = ["probabilities moved from float32's", "same top class", "largest logit error"]
    head = ["teacher", "engine", "precision", "batch", *against, "machine"]
    kept = ["teacher", "predictions", "not valid", "samples kept out"]
    return table_text(head, ran) + "\n\n" + table_text(kept, rows)


def _engine(row: Mapping[str, Any]) -> list[str]:
    """Engine, precision, batch, agreement in three columns, machine; a dash for what was not measured."""
    engine, _, precision = str(row.get("engine") or "-").rpartition("-")
    top1, error, spread = (row.get(name) for name in ("top1", "max_error", "spread"))
    same = "-" if top1 is None else f"{top1:.2%} of {row.get('samples', '?')}"
    off = "-" if error is None else f"{error:.3g}" + (f" ({error / spread:.1%} of the spread)" if spread else "")
    moved, low, high = (row.get(name) for name in ("divergence", "low", "high"))
    far = "-" if moved is None else f"{moved:.2g}" + (f" [{low:.2g}, {high:.2g}]" if high is not None else "")
    batch = str(row.get("batch") or "-")
    return [engine or precision, precision if engine else "-", batch, far, same, off, _kind(row)]


def _kind(row: Mapping[str, Any]) -> str:
    return cell_text(str(row.get("kind") or row.get("device") or "-"))


def _accuracy(corpus: Corpus, counts: LabelStatistics, names: Sequence[str]) -> str:
    if not counts.val.any():
        return "No validation image is labelled, so accuracy is unknown."
    rated = [*names, *(["mean of the teachers"] if len(names) > 1 else [])]
    ordinal = corpus.task == "ordinal"
    head = ["plain views", "images", "right decisions" if counts.many else "accuracy", "balanced accuracy"]
    rows = []
    for name, tables, images in zip(rated, counts.val, counts.val_images, strict=True):
        row = [name, f"{images:,}", _share(accuracy(tables)), _share(balanced(tables))]
        rows.append([*row, *([_share(_quadratic(tables))] if ordinal else [])])
    # Always predicting the commonest class needs no image.
    most = counts.val[-1].sum(axis=2).max(axis=1).sum() / counts.val[-1].sum()
    rows.append(["commonest class", f"{counts.val_images[-1]:,}", _share(most), "-", *(["-"] if ordinal else [])])
    note = f"\n\n{_DECIDED} Balanced: mean recall of named and not named." if counts.many else ""
    return table_text([*head, *(["quadratic kappa"] if ordinal else [])], rows) + note


def _agreement(corpus: Corpus, counts: LabelStatistics, names: Sequence[str]) -> str:
    images = max((int(t.sum()) // len(t) for t in counts.agreement.values()), default=0)
    same = "Share of equal decisions" if counts.many else "Share of equal top classes"
    measures = [(same, accuracy), ("Cohen's kappa" + (", mean over the labels" if counts.many else ""), kappa)]
    if corpus.task == "ordinal":
        measures.append(("Quadratically weighted kappa", _quadratic))
    parts = [f"Plain views of up to {images:,} images, all splits." + (f" {_DECIDED}" if counts.many else "")]
    for title, measure in measures:
        text = {pair: _share(measure(tables)) for pair, tables in counts.agreement.items()}
        rows = [
            [name, *("1" if a == b else text[min(a, b), max(a, b)] for b in range(len(names)))]
            for a, name in enumerate(names)
        ]
        parts.append(f"{title}:\n\n" + table_text(["", *names], rows))
    return "\n\n".join(parts)


def _views(counts: LabelStatistics) -> str:
    shown = {view: pair for view, pair in sorted(counts.views.items()) if pair[1]}
    if not counts.views:
        return "One teacher and no random views: there is nothing to compare."
    if not shown:
        return "One teacher, and every random view is mixed with a partner: there is nothing to compare."
    unit = "decisions" if counts.many else "images"
    rows = [[str(view), f"{every:,}", _share(same / every)] for view, (same, every) in shown.items()]
    same, every = np.sum(list(shown.values()), axis=0)
    rows.append(["all", f"{every:,}", _share(same / every)])
    what = "decides each label as" if counts.many else "has the top class of"
    table = table_text(["random view", unit, "share that does"], rows)
    return f"One teacher; how often a random view of a training image {what} its plain view.\n\n{table}"


def _classes(corpus: Corpus, counts: LabelStatistics) -> str:
    named = "named" if counts.many else "top class"
    head = ["class", "labelled", "share", f"pool: {named}", "share", "pool: mean probability"]
    rows = []
    for n, name in enumerate(corpus.classes):
        pool = ["-"] * 3
        if counts.pool_valid:
            size = counts.pool_valid
            pool = [f"{counts.top[n]:,}", f"{counts.top[n] / size:.1%}", f"{counts.mass[n] / size:.1%}"]
        prior = f"{counts.prior[n] / counts.known[n]:.1%}" if counts.known[n] else "-"
        rows.append([cell_text(name), f"{counts.prior[n]:,}", prior, *pool])
    text = f"{counts.pool_valid:,} of {counts.pool:,} unlabelled training images have valid predictions."
    if not counts.pool:
        text = "No training image is unlabelled."
    return f"{text} Labelled: training images.\n\n" + table_text(head, rows)


def _confidence(counts: LabelStatistics) -> str:
    unit = "decisions" if counts.many else "images"
    sure = "the larger of p and 1 - p" if counts.many else "the largest mean probability"
    columns = ["labelled training", "unlabelled training", "validation, right", "validation, wrong"]
    rows = [
        [f"{n / BINS:.2f} to {(n + 1) / BINS:.2f}", *(f"{count:,}" for count in counts.confidence[:, n])]
        for n in np.flatnonzero(counts.confidence.any(axis=0))
    ]
    rows.append(["all", *(f"{count:,}" for count in counts.confidence.sum(axis=1))])
    return f"Confidence is {sure} on the plain view; {unit} by confidence.\n\n" + table_text(
        ["confidence", *columns], rows
    )


def _quadratic(tables: np.ndarray) -> float | None:
    value = float(quadratic_kappa(tables)[0]) if tables.any() else float("nan")
    return value if np.isfinite(value) else None


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
