"""Catalogs and indexes as a store has them."""

from __future__ import annotations

import pyarrow as pa

from infra.digest import sha256_bytes
from infra.storage.manifest import Output
from infra.storage.stage_cache import StageCache
from tasks.data.catalog import CATALOG, COMBINED_CATALOG, INDEX, to_parquet


def store_table(cache: StageCache, title: str, kind: str, table: pa.Table) -> tuple[Output, int]:
    """Store the catalog or index of a corpus.

    Args:
        title: of the corpus.
        kind: catalog or index.

    Returns:
        What a manifest says of it, and 1 where it was not there yet, else 0.
    """
    schema = INDEX
    if kind == "catalog":
        schema = COMBINED_CATALOG if "corpus" in table.column_names else CATALOG
        if table["overlay"].null_count == len(table):
            # As releases wrote it that did not look, so that theirs come out with the same bytes.
            schema = schema.remove(schema.get_field_index("overlay"))
    data = to_parquet(table, schema)
    sha = sha256_bytes(data)
    name = f"catalogs/{title}/{kind}-{sha}.parquet"
    output = Output(name=name, id=sha, bytes=len(data), sha256=sha, samples=table.num_rows, meta={"kind": kind})
    if not cache.missing([output], verify=True):
        return output, 0
    cache.store.put(name, data)
    return output, 1
