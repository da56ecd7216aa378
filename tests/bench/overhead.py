"""What the sliding window itself costs: no-op shard functions through a real local cluster.

    python -m tests.bench.overhead [--quick]

A table for people, then one line of JSON: `{"figures": {"ms_per_shard", "driver_mb"}, "ratios": {}}`.
"""

from __future__ import annotations

import json
import sys
import time

import psutil

from infra.cluster import Cluster
from infra.cluster_spec import ClusterSection
from infra.fanout import Job, fan_out


def nothing(number: int) -> int:
    """The shard function."""
    return number


def main() -> None:
    """Run and print."""
    count = 2_000 if "--quick" in sys.argv else 100_000
    with Cluster(ClusterSection(workers=2)) as cluster:
        warm = [Job(str(i), (i,)) for i in range(200)]
        for _ in fan_out(cluster, nothing, warm):
            pass
        driver = psutil.Process()
        before = driver.memory_info().rss
        start = time.perf_counter()
        done = sum(1 for _ in fan_out(cluster, nothing, (Job(str(i), (i,)) for i in range(count))))
        seconds = time.perf_counter() - start
        grown = (driver.memory_info().rss - before) / 1e6
    figures = {"ms_per_shard": round(1000 * seconds / done, 3), "driver_mb": round(grown, 1)}
    print(f"{done} no-op shards: {figures['ms_per_shard']} ms a shard, the driver grew by {grown:.1f} MB")
    print(json.dumps({"figures": figures, "ratios": {}}))


if __name__ == "__main__":
    main()
