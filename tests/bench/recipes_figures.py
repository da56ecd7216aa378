"""The recipe table from the results of `tests.bench.recipes`, with intervals over patients crossed with seeds.

    python -m tests.bench.recipes_figures FOLDER

FOLDER is that of `tests.bench.recipes`; baselines without medicine are fitted on its labelled training images.

Of each student the learning rate is the one whose arm `joint mean` did best on validation with seed 0. The teacher is
the ensemble, its probabilities averaged over the stored views. The share of the gap closed is (arm - labels alone) /
(teacher - labels alone), and stands only where the gap's interval is above zero.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.augmentation.rendering import decode
from models.statistics.bootstrap import Interval, bootstrap, percentile_interval, share_of_gap
from models.statistics.metrics import assess, probabilities
from tasks.evaluate.baselines import border, linear, majority, thumbnail
from tests.bench.recipes_corpora import SETS

METRICS = ("macro_f1", "auc")
RESAMPLES = 2000
BASELINES = ("majority", "thumbnails", "borders")
TEACHER = "teacher x3 views"


def main() -> None:
    """Print a table a set, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    figures = {path.stem: table(path, folder / path.stem) for path in sorted((folder / "results").glob("*.jsonl"))}
    print(json.dumps({"figures": figures, "ratios": {}}))


def table(path: Path, images: Path) -> dict[str, Any]:
    """Print the table of one set; its figures.

    Args:
        path: the lines of its results, the probabilities beside them.
        images: the folder that `tests.bench.recipes_corpora.write` wrote.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    with np.load(path.with_suffix(".npz")) as stored:
        truth, split, patient = stored["truth"], stored["split"], stored["patient"]
        probs = {row["number"]: stored[str(row["number"])].astype(np.float64) for row in rows}
    test = split == "test"
    chosen: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    rate = _rates(rows)
    for row in rows:
        if row["arm"].startswith("teacher x"):
            chosen[row["arm"]][0] = row
        elif row["arm"] != "teacher" and row["lr"] == rate.get(row["model"], row["lr"]):
            name = row["arm"] + (f" {row['targets']}" if row["teacher"] else "")
            chosen[f"{row['model']}: {name}"][row["seed"]] = row
    arms = {
        name: [
            probabilities("single", np.log(np.clip(probs[own[seed]["number"]][test], 1e-7, 1))) for seed in sorted(own)
        ]
        for name, own in chosen.items()
    }
    arms |= _baselines(images, path.stem, truth, test)
    drawn = bootstrap("single", arms, truth[test], None, patient[test], resamples=RESAMPLES, metrics=METRICS)
    numbers = {name: sorted(chosen.get(name, [0])) for name in arms}
    print(f"\n{path.stem}: {int(test.sum())} test images of {len(set(patient[test]))} patients")
    print(
        "| arm | seeds | macro F1 | AUC | gap closed, F1 | gap closed, AUC | KL train (constant) | KL val (constant) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    figures: dict[str, Any] = {}
    for name, own in chosen.items():
        found: dict[str, Any] = {"seeds": len(own)}
        for metric in METRICS:
            crossed = drawn.crossed(metric, numbers)
            value = float(np.mean([row[f"test_{metric}"] for row in own.values()]))
            found[metric] = [round(value, 3), *_ends(percentile_interval(crossed[name]))]
            found[f"gap_{metric}"] = _gap(name, chosen, crossed, metric)
        for part in ("kl_train", "kl_constant_train", "kl_val", "kl_constant_val"):
            each = [row[part] for row in own.values() if part in row]
            found[part] = round(float(np.mean(each)), 3) if each else None
        figures[name] = found
        cells = [_cell(found[key]) for key in ("macro_f1", "auc", "gap_macro_f1", "gap_auc")]
        print(f"| {' | '.join([name, str(len(own)), *cells, _kl(found, 'train'), _kl(found, 'val')])} |")
    for name in BASELINES:
        row = {
            metric: [round(assess("single", arms[name][0], truth[test], None).values[metric] or 0.0, 3)]
            for metric in METRICS
        }
        figures[name] = row
        print(f"| {name} | - | {_cell(row['macro_f1'])} | {_cell(row['auc'])} | - | - | - | - |")
    return figures


def _baselines(images: Path, name: str, truth: np.ndarray, test: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Probabilities of the test images by what can be had without medicine."""
    with (images / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = [decode((images / "images" / row["image"]).read_bytes()) for row in rows]
    classes = len(SETS[name].classes)
    train = np.array([row["split"] == "train" and bool(row["label"]) for row in rows])
    val = np.array([row["split"] == "val" for row in rows])
    found = {"majority": [majority("single", truth[train], None, classes, int(test.sum()))]}
    for title, feature in (("thumbnails", thumbnail), ("borders", border)):
        x = np.stack([feature(picture) for picture in pictures])

        def score(prob: np.ndarray) -> float | None:
            return assess("single", prob, truth[val], None).values["auc"]

        _, of_test = linear("single", x[train], truth[train], None, [x[val], x[test]], classes, score)
        found[title] = [of_test]
    return found


def _rates(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By model, the learning rate with the least validation loss of seed 0."""
    tried: dict[str, dict[float, float]] = defaultdict(dict)
    for row in rows:
        if row["arm"] == "joint" and row.get("targets") == "mean" and row["seed"] == 0:
            tried[row["model"]][row["lr"]] = row["val_ce"]
    return {model: min(own, key=lambda lr: own[lr]) for model, own in tried.items()}


def _gap(name: str, chosen: Any, crossed: dict[str, np.ndarray], metric: str) -> list[Any] | None:
    model, _, arm = name.partition(": ")
    alone = f"{model}: labels"
    if not arm or arm == "labels" or alone not in chosen:
        return None
    gap = percentile_interval(crossed[TEACHER] - crossed[alone])
    if gap is None or gap.low <= 0:
        return ["no gap"]
    low, high, own = (
        np.mean([row[f"test_{metric}"] for row in chosen[each].values()]) for each in (alone, TEACHER, name)
    )
    return [
        round(float((own - low) / (high - low)), 2),
        *_ends(share_of_gap(crossed[name], crossed[alone], crossed[TEACHER])),
    ]


def _ends(found: Interval | None) -> list[float]:
    return [] if found is None else [round(found.low, 3), round(found.high, 3)]


def _cell(values: list[Any] | None) -> str:
    if values is None:
        return "-"
    if len(values) < 3:
        return str(values[0])
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


def _kl(found: dict[str, Any], split: str) -> str:
    own = found[f"kl_{split}"]
    return "-" if own is None else f"{own:.3f} ({found[f'kl_constant_{split}']:.3f})"


if __name__ == "__main__":
    main()
