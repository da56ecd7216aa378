"""Every loss of models/losses/terms.py in one table: its test, what a step costs, what a short training comes to.

    python -m tests.bench.losses [--losses a,b] [--quick] [--store DIR]

The cost of a step is relative to that with plain kl (`losses_cost.py`). The training is a short one on
phantom-endoscopy (phantom-fundus for losses on grades) with three seeds: a loss on labels alone, cross-entropy with a
loss on logits, or cross-entropy and kl with a loss on features, whose teacher is online. Losses of multilabel corpora
have their cost alone. What is done already is found in `--store`, as in `methods.py`. A table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tests
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from models.losses.terms import LOSSES
from tests.bench.losses_cost import REFERENCE, Cost, costs, in_objective
from tests.bench.methods_corpora import FIRST, NO_MEDICINE, PHANTOMS, bench_folder, raw_spec
from tests.bench.methods_figures import difference, of, show, spread
from tests.bench.methods_line import Arm, Line

STEPS = 100
QUICK = ("cross_entropy", "kl", "dist", "fitnets", "simkd")  # those that are trained with --quick, one of a kind
METRIC = "macro_f1"
GRADES, FRAMES = PHANTOMS
ALIKE = "alike"  # a teacher of the student's architecture

LABELS, KL, KL_ONLINE, KL_ALIKE = "cross_entropy", "kl", "kl, online", "kl, online, alike"
_BOTH: list[dict[str, Any]] = [{"loss": "cross_entropy"}, {"loss": "kl"}]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", default="", help="some of models.losses.terms.LOSSES; default: all")
    parser.add_argument("--store", help="folder to keep corpora and store in")
    parser.add_argument("--quick", action="store_true", help="one seed of a few steps: shows that it works")
    given = parser.parse_args()
    chosen = [loss for loss in LOSSES if not given.losses or loss in given.losses.split(",")]
    tried = [loss for loss in chosen if loss in QUICK] if given.quick and not given.losses else chosen
    cost = costs(list(dict.fromkeys([REFERENCE, *chosen])), rounds=1 if given.quick else 10)
    results: dict[str, Any] = {}
    with bench_folder(given.store, "lines", quick=given.quick) as folder, Cluster(ClusterSection()) as cluster:
        for corpus in PHANTOMS:
            losses = [loss for loss in tried if corpus_of(loss) == corpus]
            if losses:
                results |= _results(corpus, losses, folder, cluster, quick=given.quick)
    figures = {loss: {**_cost(loss, cost), **results.get(loss, {})} for loss in chosen}
    _show(figures)
    print(json.dumps({"figures": figures, "ratios": {}}))


def corpus_of(loss: str) -> str | None:
    """Where a loss is tried; None: on no phantom."""
    tasks = LOSSES[loss].tasks
    return FRAMES if "single" in tasks else GRADES if "ordinal" in tasks else None


def arms_of(losses: Sequence[str], steps: int) -> list[Arm]:
    """An arm for each loss and for each objective that one is compared with."""

    def arm(name: str, loss: list[dict[str, Any]], beside: str, *teachers: str, online: bool = False) -> Arm:
        student: dict[str, Any] = {"loss": loss, "train": {"steps": steps}}
        if online:
            student["teacher"] = "online"
        return Arm(name, name, {"student": student}, teachers, beside)

    plain = {
        LABELS: arm(LABELS, [{"loss": LABELS}], ""),
        KL: arm(KL, _BOTH, LABELS, FIRST),
        KL_ONLINE: arm(KL_ONLINE, _BOTH, LABELS, FIRST, online=True),
        KL_ALIKE: arm(KL_ALIKE, _BOTH, LABELS, ALIKE, online=True),
    }
    own = {}
    for loss in losses:
        info, terms = LOSSES[loss], in_objective(loss)
        if loss in plain:
            own[loss] = plain[loss]
        elif info.reads == "labels":
            own[loss] = arm(loss, terms[:1], LABELS)
        elif info.reads == "logits":
            own[loss] = arm(loss, terms, KL, FIRST)
        elif loss == "attention_channels":
            own[loss] = arm(loss, terms, KL_ALIKE, ALIKE, online=True)
        else:
            own[loss] = arm(loss, terms, KL_ONLINE, FIRST, online=True)
    wanted = {one.beside for one in own.values()} - {""}
    needed = wanted | {plain[name].beside for name in wanted}
    return [*(one for name, one in plain.items() if name in needed and name not in own), *own.values()]


def _results(corpus: str, losses: Sequence[str], folder: Path, cluster: Cluster, *, quick: bool) -> dict[str, Any]:
    raw = raw_spec(corpus, folder, quick=quick)
    student = raw["student"]
    alike = {"name": ALIKE, "model": student["model"], "size": raw["views"]["size"], "train": student["train"]}
    # Attention of channels compares maps of one architecture; a teacher that nobody names is not trained.
    raw["teachers"].append(alike)
    arms = arms_of(losses, student["train"]["steps"] if quick else STEPS)
    line = Line(raw, cluster)
    failed: dict[str, str] = {}
    trained = line.train(arms, range(1 if quick else 3), failed=failed)
    tested = line.test(trained)
    others: dict[str, Any] = {loss: {"corpus": corpus, "failed": text} for loss, text in failed.items()}
    return others | {
        arm.name: {
            "corpus": corpus,
            "steps": trained[arm.name][0].facts["steps"],
            "per_seed": of(tested[arm.name], METRIC),
            **spread(of(tested[arm.name], METRIC)).to_json(),
            "beside": arm.beside,
            "beside_per_seed": of(tested[arm.beside], METRIC) if arm.beside in tested else [],
        }
        for arm in arms
        if arm.name in losses and arm.name in tested
    }


def _cost(loss: str, cost: Mapping[str, Cost]) -> dict[str, Any]:
    own = cost[loss]
    parts = own.module.split(".")
    test = Path(*parts[:-1], f"test_{parts[-1]}.py")
    (root,) = tests.__path__
    return {
        "reads": LOSSES[loss].reads,
        "test": f"tests/{test.as_posix()}" if (Path(root) / test).exists() else None,
        "step_over_kl": round(own.milliseconds / cost[REFERENCE].milliseconds, 3),
    }


def _show(figures: Mapping[str, Mapping[str, Any]]) -> None:
    head = ["", "reads", "step / kl", METRIC, "minus", "", "corpus", "test"]
    rows = []
    for loss, row in figures.items():
        result = ["-", "", "", "cost only"]
        if "per_seed" in row:
            beside = row["beside"]
            minus = difference(row["per_seed"], row["beside_per_seed"]).signed if row["beside_per_seed"] else ""
            result = [str(spread(row["per_seed"])), minus, beside, row["corpus"]]
        elif "failed" in row:
            result = ["failed", "", "", row["corpus"]]
        rows.append([loss, row["reads"], f"{row['step_over_kl']:.2f}", *result, row["test"] or "none"])
    show(head, rows)
    for loss, row in figures.items():
        if "failed" in row:
            print(f"{loss} failed: {row['failed']}")
    print(
        "\nmacro_f1: mean over seeds ± half a 95 % t interval; minus: paired with the arm named beside it, * = the "
        "interval leaves 0 out.\nMultilabel losses fit neither phantom: cost only. attention_channels has a micro "
        f"teacher, fusion one teacher here (methods.py gives it two).\n{NO_MEDICINE}"
    )


if __name__ == "__main__":
    main()
