"""Parquet tables of a corpus: catalog, shard index and sample weights (DESIGN: Data contracts).

Catalog: one row per source image or per label row without an image. Labels count only here; a corrected
label changes the catalog and no shard. Index: one row per stored image, so that training can `pread` it. Sample
weights: one row per training image, written by select and read by training.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store

OK, LEFT_OUT, QUARANTINED, MISSING = "ok", "left out", "quarantined", "missing"
SPLITS = ("train", "val", "test")
UNGRADABLE = "it cannot be graded"
"""Reason of unlabelled images that are left out because they cannot be graded."""

CATALOG = pa.schema(
    [
        ("key", pa.string()),  # unique, stable, sorted, no dots; a keyed hash where private
        ("source", pa.string()),  # path below corpus.root; "" where private
        ("source_sha256", pa.string()),  # of the file's bytes; "" when missing
        ("label", pa.int32()),  # class number, -1 unlabelled; -1 for multilabel corpora
        ("labels", pa.list_(pa.int8())),  # multilabel: 1, 0 or -1 (unknown) a class; else null
        ("patient", pa.string()),  # "" when unknown: then the key stands for the patient
        ("exam", pa.string()),
        ("eye", pa.string()),
        ("site", pa.string()),  # a keyed hash where private, as camera and exam
        ("camera", pa.string()),
        ("date", pa.string()),  # ISO, as far as it is known; the year alone where private
        ("sex", pa.string()),  # female, male or other
        ("age", pa.float32()),  # years; NaN when unknown; at most 90 where private
        ("projection", pa.string()),  # of a radiograph: AP, PA, frontal (of these), lateral
        ("gradable", pa.bool_()),  # null when nobody said, nor corpus.min_quality
        ("split", pa.string()),  # train, val, test; "" unless status is ok or left out
        ("leak", pa.bool_()),  # val or test row whose patient, bytes or near twin also stands in train
        ("width", pa.int32()),  # of the source in pixels; 0 when unread
        ("height", pa.int32()),
        ("quality", pa.float32()),  # 0 to 1, see tasks.ingest.image_quality; NaN when it is not known
        ("overlay", pa.bool_()),  # likely text or an inset box, see tasks.ingest.overlays; null where nobody looked
        ("status", pa.string()),  # ok, left out (stored, but the spec does not use it), quarantined, missing
        ("reason", pa.string()),
    ]
)

INDEX = pa.schema(
    [
        ("shard", pa.int32()),  # position of the shard among the manifest's outputs of kind shard
        ("row", pa.int32()),  # position of the image within its shard
        ("key", pa.string()),
        ("ext", pa.string()),  # jpg or png
        ("offset", pa.int64()),  # of the image's bytes within the tar
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
        ("phash", pa.binary()),  # perceptual hash of the image as stored
        ("source_sha256", pa.string()),
        ("label", pa.int32()),  # as at ingest, as written to the shard's json
        ("labels", pa.list_(pa.int8())),
    ]
)


COMBINED_CATALOG = CATALOG.append(pa.field("corpus", pa.string()))
"""Catalog of several corpora: the title of each image's corpus too."""


def to_parquet(table: pa.Table, schema: pa.Schema) -> bytes:
    """Parquet bytes that repeat for equal tables and equal versions of Arrow."""
    sink = io.BytesIO()
    pq.write_table(table.select(schema.names).cast(schema), sink, compression="zstd", store_schema=True)
    return sink.getvalue()


def from_parquet(data: bytes) -> pa.Table:
    """The table that `to_parquet` wrote."""
    return pq.read_table(io.BytesIO(data))


def table_of(store: Store, manifest: Manifest, kind: str) -> pa.Table:
    """Catalog or index of an ingest manifest.

    Raises:
        MissingObjectError: it is not there.
        CorruptError: it is damaged.
    """
    table = from_parquet(read_output(store, manifest.output(kind=kind)))
    return with_attributes(table) if kind == "catalog" else table


def with_attributes(catalog: pa.Table) -> pa.Table:
    """A catalog with every column of CATALOG: those that came after it was written say that nothing is known."""
    for at, field in enumerate(CATALOG):
        if field.name not in catalog.column_names:
            blank = {pa.string(): "", pa.float32(): float("nan")}.get(field.type)
            catalog = catalog.add_column(at, field, pa.array([blank] * len(catalog), field.type))
    return catalog


SAMPLE_WEIGHTS = pa.schema(
    [
        ("key", pa.string()),  # of every training sample, in shard order
        ("weight", pa.float32()),  # 0 dropped, 1 kept, others weigh
        ("confidence", pa.float32()),  # of the calibrated ensemble; NaN where some teacher has no valid prediction
    ]
)


def read_sample_weights(store: Store, manifest: Manifest) -> dict[str, float]:
    """Weight of every training sample by key, from a select manifest; CorruptError names a damaged table."""
    table = from_parquet(read_output(store, manifest.output(kind="weights")))
    return dict(zip(table["key"].to_pylist(), table["weight"].to_pylist(), strict=True))
