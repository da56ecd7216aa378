"""What an ingest does with files that cannot be used: reasons, asking again, and the failure budget."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.errors import BudgetError
from infra.storage.store import LocalStore
from tests.tasks.corpora.layouts import image
from tests.tasks.ingest.graded import catalog, grade, shards
from tests.tasks.ingest.specs import run, spec


def spoil(corpus: Path) -> dict[str, str]:
    """Three files at fault; key to reason."""
    whole = (corpus / "train/32_left.jpeg").read_bytes()
    (corpus / "train/30_left.jpeg").write_bytes(b"")
    (corpus / "train/31_left.jpeg").write_bytes(b"<html>not found</html>")
    (corpus / "train/32_left.jpeg").write_bytes(whole[:-40])
    return {
        "train/30_left.jpeg": "not readable: the file is empty (zero bytes)",
        "train/31_left.jpeg": "not readable: the content is an HTML page, perhaps the error page of a failed download",
        "train/32_left.jpeg": "not readable: cut-off JPEG: no end-of-image marker",
    }


def test_files_at_fault_are_quarantined_with_reasons(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    reasons = spoil(corpus)
    manifest = run(spec(corpus, store), cluster).manifest
    assert {q.source: q.reason for q in manifest.quarantine} == reasons
    row = catalog(store, manifest)["30_left"]
    assert (row["status"], row["split"], manifest.facts["quarantined"]) == ("quarantined", "", 3)


def test_quarantined_files_are_asked_again_only_on_request(
    corpus: Path, store: LocalStore, cluster: Cluster, no_cluster: Cluster
) -> None:
    spoil(corpus)
    first = run(spec(corpus, store), cluster)
    grade(corpus, **{"p3_left": 2})
    again = run(spec(corpus, store), no_cluster)
    assert len(again.manifest.quarantine) == 3
    asked = run(spec(corpus, store, run={"retry_quarantined": True}), cluster)
    assert (asked.made, asked.manifest.digest) == (0, again.manifest.digest)
    assert shards(asked.manifest) == shards(first.manifest)


def test_a_file_that_was_put_right_comes_in(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    spoil(corpus)
    first = run(spec(corpus, store), cluster)
    image(corpus / "train/31_left.jpeg", 31)
    again = run(spec(corpus, store), cluster)
    assert len(again.manifest.quarantine) == 2
    assert len(shards(again.manifest)) == len(shards(first.manifest)) + 1


def test_the_failure_budget_ends_the_run(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    spoil(corpus)
    before = set(cluster.client.futures)
    with pytest.raises(BudgetError, match=r"of 46 images are at fault, more than ingest\.max_bad 1 .*30_left: not"):
        run(spec(corpus, store, ingest={"max_bad": 1, "max_bad_share": 0.01}), cluster)
    assert store.sizes("manifests/") == {}
    assert set(cluster.client.futures) <= before


def test_the_budget_does_not_enter_the_key(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store), cluster)
    assert run(spec(corpus, store, ingest={"max_bad": 3}), cluster).manifest.digest == first.manifest.digest


def test_an_unreadable_file_is_quarantined(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    (corpus / "train/30_left.jpeg").unlink()
    os.symlink("nowhere", corpus / "train/30_left.jpeg")
    (fault,) = run(spec(corpus, store), cluster).manifest.quarantine
    assert fault.source == "train/30_left.jpeg"
    assert fault.reason == "not readable: a link that leads nowhere (No such file or directory)"
