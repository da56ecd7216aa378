"""What distillation is worth: arms that differ in one thing, on paired seeds and equal steps.

    python -m tests.bench.methods [--corpus phantom-fundus|phantom-endoscopy|chest] [--seeds 5] [--quick]
                                  [--store DIR] [--arms a,b]

A table for people, then one line of JSON. Intervals are Student's, 95 %, over seeds: they speak of the luck of
training, not of other patients. Baselines without medicine and the teachers stand beside. What is done already is found
in the folder `--store` (default: `lines` below STILLROOM_BENCH, or below .bench; with --quick a temporary one), so a
killed run goes on where it was. The chest x-rays need STILLROOM_REAL_DATA.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.storage.manifest import Manifest
from tests.bench.methods_corpora import CORPORA, FIRST, NO_MEDICINE, SECOND, bench_folder, raw_spec
from tests.bench.methods_figures import Spread, difference, of, show, shown_metrics, spread
from tests.bench.methods_line import Arm, Line, Metrics

LABELS = "labels"

_KL: list[dict[str, Any]] = [{"loss": "cross_entropy"}, {"loss": "kl"}]
# Twice cross-entropy's weight is what the authors of DIST used with ImageNet.
_DIST: list[dict[str, Any]] = [{"loss": "cross_entropy"}, {"loss": "dist", "weight": 2.0}]


def _learns(loss: list[dict[str, Any]], **student: Any) -> dict[str, Any]:
    return {"student": {"loss": loss, **student}}


ARMS = (
    Arm(LABELS, "labels alone", _learns([{"loss": "cross_entropy"}])),
    Arm("kd_labelled", "KD on the labelled images", _learns(_KL, pool="labelled"), (FIRST,), LABELS),
    # Labels alone see a new view of each image in every epoch; four stored ones of few images soon come round.
    Arm(
        "kd_fresh",
        "KD on the labelled images, teacher online",
        _learns(_KL, pool="labelled", teacher="online"),
        (FIRST,),
        LABELS,
    ),
    Arm("kd_pool", "KD with the unlabelled pool", _learns(_KL), (FIRST,), "kd_labelled"),
    Arm("dist_pool", "DIST with the pool", _learns(_DIST), (FIRST,), "kd_pool"),
    Arm("kd_two", "KD with the pool, two teachers", _learns(_KL), (FIRST, SECOND), "kd_pool"),
    Arm(
        "fusion",
        "attention fusion of two teachers",
        _learns([*_KL, {"loss": "fusion"}]),
        (FIRST, SECOND),
        "kd_two",
    ),
)

# What the default of a corpus adds to the arms above.
DEFAULTS = {
    "phantom-fundus": Arm(
        "grades",
        "cumulative logits with the pool (default)",
        _learns([{"loss": "cumulative"}, {"loss": "cumulative_kl"}]),
        (FIRST,),
        "kd_pool",
    ),
    "phantom-endoscopy": Arm(
        "adjusted",
        "logit-adjusted KD with the pool (default)",
        _learns([{"loss": "logit_adjusted"}, {"loss": "kl"}]),
        (FIRST,),
        "kd_pool",
    ),
}


def main() -> None:
    """Run and print."""
    given = _arguments()
    arms = [*ARMS, *([DEFAULTS[given.corpus]] if given.corpus in DEFAULTS else [])]
    chosen = [arm for arm in arms if not given.arms or arm.name in given.arms.split(",")]
    unknown = set(given.arms.split(",")) - {arm.name for arm in arms} - {""}
    if unknown:
        raise SystemExit(f"no arm {', '.join(sorted(unknown))}; there are {', '.join(arm.name for arm in arms)}")
    with bench_folder(given.store, "lines", quick=given.quick) as folder, Cluster(ClusterSection()) as cluster:
        line = Line(raw_spec(given.corpus, folder, quick=given.quick), cluster)
        trained = line.train(chosen, range(2 if given.quick else given.seeds))
        figures = _figures(line, chosen, trained)
    _show(given.corpus, chosen, figures)
    print(json.dumps({"figures": figures, "ratios": {}}))


def _counts(line: Line) -> dict[str, int]:
    """Images of the corpus that train, with labels and in all, and that are tested on."""
    train, test = (line.corpus.of_split(split) for split in ("train", "test"))
    return {
        "labelled": sum(int(shard.labelled.sum()) for shard in train),
        "train": sum(len(shard) for shard in train),
        "test": sum(int(shard.labelled.sum()) for shard in test),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", choices=CORPORA, default=CORPORA[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default="", help=f"some of {','.join(a.name for a in ARMS)},grades,adjusted")
    parser.add_argument("--store", help="folder to keep corpora and store in")
    parser.add_argument("--quick", action="store_true", help="two seeds of a few steps: shows that it works")
    return parser.parse_args()


def _figures(line: Line, arms: Sequence[Arm], trained: Mapping[str, Sequence[Manifest]]) -> dict[str, Any]:
    teachers = {name: [line.teacher(name)] for arm in arms for name in arm.teachers}
    tested = line.test({**trained, **teachers}, baselines=True)
    metrics = shown_metrics(line.corpus.task)
    return {
        "corpus": line.corpus.title,
        "images": _counts(line),
        "metrics": list(metrics),
        "steps": trained[arms[0].name][0].facts["steps"],
        "arms": {
            arm.name: {
                "parameters": trained[arm.name][0].facts["parameters"],
                "steps": [model.facts["steps"] for model in trained[arm.name]],
                **{metric: _row(arm, tested, metric) for metric in metrics},
            }
            for arm in arms
        },
        "beside": {
            name: {
                "parameters": teachers[name][0].facts["parameters"] if name in teachers else None,
                **{metric: rows[0][metric] for metric in metrics},
            }
            for name, rows in tested.items()
            if name not in trained
        },
    }


def _row(arm: Arm, tested: Mapping[str, Sequence[Metrics]], metric: str) -> dict[str, Any]:
    own = of(tested[arm.name], metric)
    row: dict[str, Any] = {"per_seed": own, **spread(own).to_json()}
    for title, other in (("minus_labels", LABELS), ("minus_beside", arm.beside)):
        if other in tested and other != arm.name:
            row[title] = difference(own, of(tested[other], metric)).to_json()
    return row


def _show(corpus: str, arms: Sequence[Arm], figures: dict[str, Any]) -> None:
    images = figures["images"]
    print(
        f"{corpus}: {images['labelled']} of {images['train']} training images have labels, {images['test']} test "
        f"images; {figures['steps']} steps an arm"
    )
    for metric in figures["metrics"]:
        rows = []
        for arm in arms:
            row = figures["arms"][arm.name]
            own = row[metric]
            rows.append(
                [
                    arm.words,
                    str(row["parameters"]),
                    str(_spread(own)),
                    _spread(own.get("minus_labels")).signed,
                    _spread(own.get("minus_beside")).signed + (f" {arm.beside}" if "minus_beside" in own else ""),
                ]
            )
        for name, other in figures["beside"].items():
            value = other[metric]
            text = "-" if value is None else f"{value:.3f}"
            title = name if other["parameters"] is None else f"teacher {name}"
            rows.append([title, str(other["parameters"] or "-"), text, "", ""])
        print()
        show([metric, "parameters", "mean ± 95 %", "minus labels alone", "minus the arm it builds on"], rows)
    print("\nPaired by seed; * = the 95 % t interval leaves 0 out.")
    if corpus.startswith("phantom-"):
        print(NO_MEDICINE)


def _spread(row: dict[str, Any] | None) -> Spread:
    return Spread(row["mean"], row["interval"]) if row else Spread(None, None)


if __name__ == "__main__":
    main()
