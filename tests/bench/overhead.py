"""What the sliding window and the stage cache themselves cost.

    python -m tests.bench.overhead [--quick]

No-op shard functions go through a real local cluster; then a finished stage of 10,000 shards is looked up in a
local store, and as many unit records are read. A table for people, then one line of JSON:
`{"figures": {"ms_per_shard", "driver_mb", "revalidate_s", "records_s"}, "ratios": {}}`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.compute.fan_out import Job, fan_out
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import LocalStore

STAGE, KEY = "label", "0" * 64


def nothing(number: int) -> int:
    """The shard function."""
    return number


def window(count: int) -> dict[str, float]:
    """Milliseconds a no-op shard, and megabytes by which the driver grew until half-way and the end."""

    def jobs(number: int) -> Iterator[Job]:
        return (Job(str(i), (i,)) for i in range(number))

    driver = psutil.Process()
    with Cluster(ClusterSection(workers=2)) as cluster:
        for _ in fan_out(cluster, nothing, jobs(2_000)):
            pass
        before, half = driver.memory_info().rss, 0
        start = time.perf_counter()
        for done, _ in enumerate(fan_out(cluster, nothing, jobs(count)), start=1):
            if done == count // 2:
                half = driver.memory_info().rss
        seconds = time.perf_counter() - start
        after = driver.memory_info().rss
    print(
        f"{count} no-op shards: {1000 * seconds / count:.3f} ms a shard; the driver grew by "
        f"{(half - before) / 1e6:.1f} MB half-way, {(after - before) / 1e6:.1f} MB at the end"
    )
    return {"ms_per_shard": round(1000 * seconds / count, 3), "driver_mb": round((after - before) / 1e6, 1)}


def revalidation(shards: int, folder: Path) -> dict[str, float]:
    """Seconds to find a finished stage whole, and to read the unit records of one that was killed at its end."""
    cache = StageCache(LocalStore(folder))
    outputs = []
    for number in range(shards):
        output = cache.put_object(
            f"labels/made-up/{number:06d}-{{sha8}}.bin", str(number).encode(), unit=f"{number:064d}"
        )
        cache.record(STAGE, UnitRecord(f"{number:064d}", (output,)))
        outputs.append(output)
    cache.commit(
        Manifest(stage=STAGE, version=1, key=KEY, inputs=[], section={}, outputs=outputs, facts={"kind": "made up"})
    )
    start = time.perf_counter()
    hit = cache.lookup(STAGE, KEY)
    looked_up = time.perf_counter() - start
    assert hit is not None
    assert hit.whole
    start = time.perf_counter()
    found = sum(1 for _ in cache.each_recorded(STAGE, (f"{number:064d}" for number in range(shards))))
    read = time.perf_counter() - start
    print(f"{hit.message}: {looked_up:.2f} s; {found} unit records read: {read:.2f} s")
    return {"revalidate_s": round(looked_up, 3), "records_s": round(read, 3)}


def main() -> None:
    """Run and print."""
    quick = "--quick" in sys.argv
    figures = window(2_000 if quick else 100_000)
    with tempfile.TemporaryDirectory() as folder:
        figures |= revalidation(500 if quick else 10_000, Path(folder))
    print(json.dumps({"figures": figures, "ratios": {}}))


if __name__ == "__main__":
    main()
