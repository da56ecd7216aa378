"""Ingestion side by side: 10-megapixel JPEGs to 512 px, same files, quality and number of processes, one run.

    python -m tests.bench.ingest [--quick]

A table for people, then one line of JSON: images a second and peak memory under `figures`, ours over theirs
under `ratios`. `STILLROOM_BENCH` names a folder to keep the photographs and corpora in between runs.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from infra.compute.cluster import Cluster, cores
from infra.compute.cluster_spec import ClusterSection
from infra.storage.store import open_store
from tasks.ingest.stage import ingest
from tasks.pipeline.context import Context
from tasks.spec import Spec
from tests.bench import noop_cost
from tests.bench.noop_cost import peak_mb
from tests.bench.photos import make_photos
from tests.bench.rivals import QUALITY, SIZE, bound, img2dataset, shard_writer
from tests.s3server import S3Server, environment

PER_SHARD = 50


def spec_of(root: Path, store: str) -> Spec:
    """As a user would write it for a folder with a table."""
    table = {"csv": "labels.csv", "images": "images", "image": "name", "label": "grade"}
    return Spec.model_validate(
        {
            "name": "bench",
            "store": store,
            "corpus": {"adapter": "table", "root": root, "name": "bench", "modality": "fundus", "table": table},
            "ingest": {"size": SIZE, "quality": QUALITY, "shard_size": PER_SHARD, "crop": "none"},
            "teachers": [{"name": "t", "model": "micro"}],
            "student": {"model": "micro"},
        }
    )


def lay_out(root: Path, photos: list[Path]) -> Path:
    """A corpus of links to the photographs, and its table."""
    (root / "images").mkdir(parents=True)
    for photo in photos:
        os.link(photo, root / "images" / photo.name)
    grades = "".join(f"{p.name},{n % 5}\n" for n, p in enumerate(photos))
    (root / "labels.csv").write_text(f"name,grade\n{grades}")
    return root


def _fresh_peak() -> None:
    import tasks.ingest.shard  # noqa: F401  (imports are not what is measured)

    Path("/proc/self/clear_refs").write_text("5")


def stillroom(root: Path, store: str, processes: int) -> tuple[float, float]:
    """(images a second of a whole ingest, largest peak of a worker in MB); workers have started before."""
    spec = spec_of(root, store)
    with Cluster(ClusterSection(workers=processes)) as cluster:
        cluster.client.run(_fresh_peak)
        start = time.perf_counter()
        result = ingest(Context(open_store(store), cluster, spec.run), spec)
        seconds = time.perf_counter() - start
        peaks = cluster.client.run(peak_mb)
    return sum(result.manifest.facts["images"].values()) / seconds, max(peaks.values())


def main() -> None:
    """Run and print."""
    quick = "--quick" in sys.argv
    count, rounds, processes = (60, 1, cores()) if quick else (1000, 3, cores())
    many = (20_000, 200) if quick else (1_000_000, 10_000)
    with tempfile.TemporaryDirectory(prefix="stillroom-bench-") as scratch:
        kept = Path(os.environ.get("STILLROOM_BENCH", scratch))
        place = Path(scratch)
        photos = make_photos(kept / "photos", count)
        size = sum(p.stat().st_size for p in photos) / count / 1e6
        print(f"{count} JPEGs of 10 megapixels, {size:.1f} MB each, to {SIZE} px on {processes} processes")
        corpus = kept / "corpora" / str(count)
        if not corpus.exists():
            lay_out(corpus, photos)
        figures: dict[str, float | None] = {"bound": None}
        ours, bounds, peak = [], [], 0.0
        for n in range(rounds):
            bounds.append(bound(photos, processes))
            rate, high = stillroom(corpus, str(place / f"store-{n}"), processes)
            ours.append(rate)
            peak = max(peak, high)
        figures |= {"stillroom": median(ours), "bound": median(bounds), "peak_mb": peak}
        one = lay_out(place / "one", photos[: PER_SHARD * 2])
        figures["peak_mb_few_shards"] = stillroom(one, str(place / "store-one"), processes)[1]
        figures["shardwriter"] = shard_writer(photos, processes, place / "writer")
        figures["img2dataset"] = img2dataset(photos, processes, place / "img2dataset")
        figures["stillroom_s3"] = _to_s3(corpus, place, processes)
        figures |= _noop(kept, *many)
    ratios = {name: _ratio(figures["stillroom"], figures[name]) for name in ("img2dataset", "shardwriter", "bound")}
    _show(figures, ratios)
    print(json.dumps({"figures": {k: v and round(v, 3) for k, v in figures.items()}, "ratios": ratios}))


def _to_s3(corpus: Path, place: Path, processes: int) -> float:
    os.environ.update(environment())
    server = S3Server(place / "s3")
    try:
        return stillroom(corpus, server.url(server.bucket(), "store"), processes)[0]
    finally:
        server.close()


def _noop(kept: Path, images: int, shards: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, n, s in (("tenth", images // 10, shards // 10), ("whole", images, shards)):
        place = kept / f"noop-{n}-{s}"
        if not place.exists():
            noop_cost.make(place, n, s)
        cost = noop_cost.measure(place)
        found |= {f"noop_{name}_s": cost["seconds"], f"noop_{name}_mb": cost["peak_mb"]}
        if "STILLROOM_BENCH" not in os.environ:
            shutil.rmtree(place)
    return found


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours and theirs else None


def _show(figures: dict[str, float | None], ratios: dict[str, float | None]) -> None:
    for name in ("img2dataset", "shardwriter", "bound", "stillroom", "stillroom_s3"):
        value = figures[name]
        told = f"{value:8.1f} images/s" if value else "       - "
        print(f"{name:14}{told}" + (f"   ours over it: {ratios[name]}" if name in ratios else ""))
    print(f"peak of a worker: {figures['peak_mb_few_shards']:.0f} MB (4 shards), {figures['peak_mb']:.0f} MB (all)")
    for name in ("tenth", "whole"):
        print(f"nothing new ({name}): {figures[f'noop_{name}_s']:.2f} s, {figures[f'noop_{name}_mb']:.0f} MB")


if __name__ == "__main__":
    main()
