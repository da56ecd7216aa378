"""How many stored views are enough: students of V = 1, 4 and 16 stored views beside a teacher that sees every batch.

    python -m tests.bench.views [--corpora phantom-fundus,chest] [--quick] [--store DIR]

Equal steps, three paired seeds. What V views cost before the first student (seconds of labelling, bytes of soft labels
of training images) stands beside what every training costs (seconds, one at a time on all cores). The labelling of the
fewest views has in it what loading the teacher and choosing its engine takes. Seconds of finished stages are kept
beside the store, for a stage that is found again takes no time; those of a training that was killed and resumed
are since then. What rendering one view costs, with transforms and without, comes first (`views_cost.py`; `--cost` for
that alone). Tables for people, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from tests.bench.methods_corpora import CORPORA, FIRST, NO_MEDICINE, bench_folder, raw_spec
from tests.bench.methods_figures import difference, of, show, shown_metrics, spread
from tests.bench.methods_line import Arm, Line, merged, say
from tests.bench.views_cost import costs, table

ONLINE = "online"
STEPS = 300
FEW = 340  # unlabelled images of a phantom: an epoch uses one view, and 16 views must come round more than once

_KL = [{"loss": "cross_entropy"}, {"loss": "kl"}]


class Notes:
    """Numbers by name that outlive this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def put(self, name: str, value: float) -> None:
        """Keep a number."""
        self._kept[name] = value
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._kept))
        part.replace(self._path)

    def get(self, name: str) -> float | None:
        """The number, None where it was never measured."""
        return self._kept.get(name)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpora", help=f"some of {','.join(CORPORA)}; default: phantom-fundus,chest, the first alone with --quick"
    )
    parser.add_argument("--store", help="folder to keep corpora and store in")
    parser.add_argument("--quick", action="store_true", help="two seeds of a few steps: shows that it works")
    parser.add_argument("--cost", action="store_true", help="what one view costs, and no training")
    given = parser.parse_args()
    cost = costs(rounds=3 if given.quick else 20)
    show(["a view", "ms", "of ours"], table(cost))
    if given.cost:
        print(json.dumps({"cost": cost}))
        return
    figures: dict[str, Any] = {}
    # A folder of its own: labels that another table had made would seem to cost nothing.
    with bench_folder(given.store, "views", quick=given.quick) as folder, Cluster(ClusterSection()) as cluster:
        for corpus in (given.corpora or ("phantom-fundus" if given.quick else "phantom-fundus,chest")).split(","):
            try:
                raw = raw_spec(corpus, folder, quick=given.quick)
            except UsageError as error:
                say(f"left out: {error}")
                continue
            figures[corpus] = _measure(raw, cluster, folder / f"{corpus}.json", quick=given.quick)
    _show(figures)
    print(json.dumps({"figures": figures, "cost": cost, "ratios": {}}))


def _measure(raw: dict[str, Any], cluster: Cluster, kept: Path, *, quick: bool) -> dict[str, Any]:
    first = raw["teachers"][0]
    # Stored features are larger than logits by far, and no loss here reads them.
    raw["teachers"] = [{name: value for name, value in first.items() if name != "features"}]
    if "phantom" in raw["corpus"] and not quick:
        raw["corpus"] = merged(raw["corpus"], {"phantom": {"unlabelled": FEW}})
        raw["corpus"]["root"] += "-few"
    line, notes = Line(raw, cluster, side_by_side=1), Notes(kept)
    arms = _arms((1, 2, 4) if quick else (1, 4, 16), raw["student"]["train"]["steps"] if quick else STEPS)
    stored = _label(line, arms, notes)
    trained = _train(line, arms, range(2 if quick else 3), notes)
    tested = line.test(trained)
    metrics = shown_metrics(line.corpus.task)
    steps = trained[ONLINE][0].facts["steps"]
    images = sum(len(shard) for shard in line.corpus.of_split("train"))
    return {
        "metrics": list(metrics),
        "steps": steps,
        "epochs": round(steps * line.spec.student.train.batch / images, 1),
        "arms": {
            arm.name: {
                **stored.get(arm.name, {"label_s": 0.0, "bytes": 0}),
                "train_s": _typical([notes.get(model.key) for model in trained[arm.name]]),
                **{metric: _row(tested, arm, metric) for metric in metrics},
            }
            for arm in arms
        },
    }


def _arms(counts: Sequence[int], steps: int) -> list[Arm]:
    student = {"loss": _KL, "train": {"steps": steps}}
    stored = [
        Arm(f"V{count}", f"{count} stored", {"views": {"count": count}, "student": student}, (FIRST,), ONLINE)
        for count in counts
    ]
    return [*stored, Arm(ONLINE, "teacher online", {"student": {**student, "teacher": "online"}}, (FIRST,))]


def _label(line: Line, arms: Sequence[Arm], notes: Notes) -> dict[str, dict[str, Any]]:
    """Label for one arm after the other, few views first, and say what its views cost together."""
    line.teacher(FIRST)
    found: dict[str, dict[str, Any]] = {}
    seconds: float | None = 0.0
    before = 0
    for arm in arms:
        if arm.name == ONLINE:
            continue
        start = time.perf_counter()
        (result,) = line.label(arm)
        if result.made:
            # Of the files that this arm adds some may have been made by a run that was killed.
            share = (time.perf_counter() - start) / result.made
            notes.put(f"label {result.manifest.key}", share * (result.total - before))
        own = notes.get(f"label {result.manifest.key}")
        seconds = None if own is None or seconds is None else seconds + own
        files = result.manifest.outputs_where(kind="soft", split="train")
        found[arm.name] = {
            "label_s": None if seconds is None else round(seconds, 1),
            "bytes": sum(output.bytes for output in files),
        }
        before = result.total
    return found


def _train(line: Line, arms: Sequence[Arm], seeds: Sequence[int], notes: Notes) -> dict[str, list[Manifest]]:
    def note(arm: Arm, seed: int, manifest: Manifest, seconds: float | None) -> None:
        if seconds is not None:
            notes.put(manifest.key, seconds)

    return line.train(arms, seeds, done=note)


def _typical(seconds: Sequence[float | None]) -> float | None:
    known = [one for one in seconds if one is not None]
    return round(median(known), 1) if known else None


def _row(tested: Mapping[str, Any], arm: Arm, metric: str) -> dict[str, Any]:
    own = of(tested[arm.name], metric)
    row: dict[str, Any] = {"per_seed": own, **spread(own).to_json()}
    if arm.beside:
        row["minus_online"] = difference(own, of(tested[arm.beside], metric)).to_json()
    return row


def _show(figures: Mapping[str, Any]) -> None:
    rows, head = [], ["", "views", "metric", "mean ± 95 %", "minus online", "labels s", "labels kB", "training s"]
    for corpus, own in figures.items():
        for metric in own["metrics"]:
            for name, arm in own["arms"].items():
                row = arm[metric]
                minus = difference(row["per_seed"], own["arms"][ONLINE][metric]["per_seed"]).signed
                rows.append(
                    [
                        corpus,
                        name,
                        metric,
                        str(spread(row["per_seed"])),
                        "" if name == ONLINE else minus,
                        "-" if arm["label_s"] is None else f"{arm['label_s']:.1f}",
                        f"{arm['bytes'] / 1e3:.1f}",
                        "-" if arm["train_s"] is None else f"{arm['train_s']:.1f}",
                    ]
                )
    show(head, rows)
    taken = ", ".join(f"{own['steps']} steps ({own['epochs']} epochs) of {corpus}" for corpus, own in figures.items())
    print(f"\n{taken}. Paired by seed; * = the 95 % t interval leaves 0 out. {NO_MEDICINE}")


if __name__ == "__main__":
    main()
