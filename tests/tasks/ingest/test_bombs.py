"""A corpus of bombs and malformed files: every one is named, nothing dies, time and memory stay within bounds."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.storage.store import LocalStore
from tasks.ingest.pixels import ImageRecipe, UnreadableError, encode_image
from tests.tasks.corpora.layouts import eyepacs, many_patients
from tests.tasks.ingest.drawn_bombs import Drawn, drawn
from tests.tasks.ingest.graded import catalog
from tests.tasks.ingest.specs import run, spec
from tests.tasks.sources.test_zip_bombs import quoting_bomb

COUNT, IN_ZIP = 10_000, 200
MOST_SECONDS, MOST_GROWTH = 2.0, 600 << 20
GOOD = many_patients(20)


def peak() -> int:
    """Bytes that this process held at most."""
    # Not getrusage: what that tells begins with the memory of the process that forked this one.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def slowest(files: list[Drawn]) -> float:
    """Seconds of processor time that the slowest of these images takes."""
    recipe = ImageRecipe(size=16, encode="jpeg", quality=92, crop="none", max_pixels=100_000_000)
    longest = 0.0
    for one in files:
        began = time.thread_time()
        try:
            encode_image(one.data, recipe)
        except UnreadableError:
            pass
        longest = max(longest, time.thread_time() - began)
    return longest


@pytest.mark.slow
def test_of_ten_thousand_bombs_and_malformed_files_each_is_named(
    tmp_path: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = eyepacs(tmp_path / "corpus", GOOD)
    files = {f"{1_000 + number}_left": one for number, one in enumerate(drawn(COUNT))}
    for name, one in files.items():
        (corpus / "train" / f"{name}.jpeg").write_bytes(one.data)
    zipped = [f"{20_000 + number}_left" for number in range(IN_ZIP)]
    (corpus / "more.zip").write_bytes(quoting_bomb([f"train/{name}.jpeg" for name in zipped]))
    given = spec(corpus, store, ingest={"shard_size": 500, "max_bad_share": 1.0})
    with Cluster(ClusterSection(workers=1)) as cluster:
        before = max(cluster.client.run(peak).values())
        workers = set(cluster.client.run(os.getpid).values())
        began = time.monotonic()
        manifest = run(given, cluster).manifest
        seconds = time.monotonic() - began
        after = max(cluster.client.run(peak).values())
        assert set(cluster.client.run(os.getpid).values()) == workers
    rows = catalog(store, manifest)
    named = {Path(one.source).stem for one in manifest.quarantine}
    assert rows.keys() == files.keys() | set(zipped) | GOOD.keys()
    assert named == {key for key, row in rows.items() if row["status"] == "quarantined"}
    assert not named & GOOD.keys()
    assert named >= set(zipped) | {name for name, one in files.items() if one.bad}
    longest = slowest(list(files.values()))
    assert longest < MOST_SECONDS
    assert after - before < MOST_GROWTH
    kinds = Counter(one.kind for name, one in files.items() if name in named)
    with capsys.disabled():
        print(
            f"\n{COUNT + IN_ZIP} files, {len(named)} named {dict(kinds)}, {seconds:.0f} s; slowest image "
            f"{longest * 1000:.0f} ms; worker {before >> 20} MiB before, {after >> 20} MiB at most"
        )
