"""Sample weights as select stores them and training reads them."""

from __future__ import annotations

import pyarrow as pa

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.catalog import from_parquet

WEIGHTS = pa.schema(
    [
        ("key", pa.string()),  # of every training sample, in shard order
        ("weight", pa.float32()),  # 0 dropped, 1 kept, others weigh
        ("confidence", pa.float32()),  # of the calibrated ensemble; NaN where some teacher could not speak
    ]
)


def read_weights(store: Store, manifest: Manifest) -> dict[str, float]:
    """Weight of every training sample by key, from a select manifest; CorruptError names a damaged table."""
    table = from_parquet(read_output(store, manifest.output(kind="weights")))
    return dict(zip(table["key"].to_pylist(), table["weight"].to_pylist(), strict=True))
