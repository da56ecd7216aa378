"""What a re-ingest costs when nothing is new: a corpus of many files, its shards and catalog made up.

Shards are a few bytes each and images are empty files, for a no-op reads neither; everything else is as an
ingest leaves it, written through the same code.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.digest import sha256_bytes
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data.catalog import CATALOG, INDEX, to_parquet
from tasks.ingest.corpus_listing import open_corpus, scan_corpus
from tasks.ingest.parent import write_head
from tasks.ingest.source_fingerprint import SourceFingerprint, digest_of_files, digest_of_request
from tasks.ingest.stage import STAGE, VERSION, ingest
from tasks.pipeline.context import Context
from tasks.spec import Spec

FOLDER = 1000  # files a folder


def spec_of(place: Path) -> Spec:
    """The spec of the made-up corpus."""
    table = {"csv": "labels.csv", "images": "images", "image": "name", "label": "label"}
    return Spec.model_validate(
        {
            "name": "many",
            "store": str(place / "store"),
            "corpus": {"adapter": "table", "root": place / "corpus", "name": "many", "table": table},
            "teachers": [{"name": "t", "model": "micro"}],
            "student": {"model": "micro"},
        }
    )


def make(place: Path, images: int, shards: int) -> None:
    """Lay out corpus and store."""
    names = [f"{n // FOLDER:06d}/i{n:09d}" for n in range(images)]
    root = place / "corpus"
    for start in range(0, images, FOLDER):
        folder = root / "images" / names[start][:6]
        folder.mkdir(parents=True)
        for name in names[start : start + FOLDER]:
            (folder / f"{name[7:]}.jpg").touch()
    # Few labels: what a table costs is not what is measured.
    (root / "labels.csv").write_text("name,label\n" + "".join(f"{n}.jpg,{i % 3}\n" for i, n in enumerate(names[:300])))
    _store(spec_of(place), [name[7:] for name in names], shards)


def _store(spec: Spec, keys: list[str], shards: int) -> None:
    store = LocalStore(Path(spec.store))
    cache, size = StageCache(store), len(keys)
    found = scan_corpus(spec.corpus, spec.ingest, open_corpus(spec.corpus))
    per = -(-size // shards)
    outputs = []
    for n in range(shards):
        data = f"shard {n}".encode()
        meta = {"kind": "shard", "split": "train", "number": n}
        name = f"shards/many/00000000/train-{n:05d}-{{sha8}}.tar"
        outputs.append(cache.put_object(name, data, samples=per, unit=sha256_bytes(data), meta=meta))
    blank = {f.name: pa.nulls(size, f.type) for f in (*CATALOG, *INDEX)}
    text = pa.repeat("", size)
    blank |= {n: text for n in ("source", "patient", "exam", "eye", "site", "camera", "date", "reason")}
    blank["key"] = pa.array(keys)
    rows = np.arange(size)
    catalog = blank | {"status": pa.repeat("ok", size), "split": pa.repeat("train", size)}
    index = blank | {"shard": pa.array(rows // per, pa.int32()), "row": pa.array(rows % per, pa.int32())}
    for kind, schema, columns in (("index", INDEX, index), ("catalog", CATALOG, catalog)):
        data = to_parquet(pa.table([columns[n] for n in schema.names], schema=schema), schema)
        outputs.append(cache.put_object(f"catalogs/many/{kind}-{{sha}}.parquet", data, meta={"kind": kind}))
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=sha256_bytes(b"many"),
        inputs=["", ""],
        section=found.section,
        outputs=outputs,
        facts={"task": "single"},
    )
    write_head(store, "many", cache.commit(manifest))
    request = digest_of_request(spec.corpus, spec.ingest)
    SourceFingerprint(found.source.url, request, digest_of_files(found.source.files()), manifest.digest).save(
        store, "many"
    )


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def _noop(place: Path, answer: Any) -> None:
    spec = spec_of(place)
    nobody = Cluster(ClusterSection(kind="address", address="nowhere://0"))
    # A child begins with its parent's peak; 5 resets it (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    result = ingest(Context(LocalStore(Path(spec.store)), nobody, spec.run), spec)
    seconds = time.perf_counter() - start
    assert result.cached
    answer.put({"seconds": seconds, "peak_mb": peak_mb()})


def measure(place: Path) -> dict[str, float]:
    """Seconds and peak memory of a no-op in a fresh process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_noop, args=(place, answer))
    process.start()
    found = answer.get(timeout=600)
    process.join()
    return dict(found)


def main() -> None:
    """`python -m tests.bench.noop_cost FOLDER IMAGES SHARDS`"""
    import sys

    place, images, shards = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if not place.exists():
        make(place, images, shards)
    print(json.dumps(measure(place)))


if __name__ == "__main__":
    main()
