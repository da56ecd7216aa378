"""A private corpus: no file name, patient or metadata outside the folder that it came from."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from infra.compute.cluster import Cluster
from infra.digest import sha256_bytes
from infra.errors import BudgetError, CorpusError
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tasks.ingest.corpus_listing import open_corpus, scan_corpus
from tasks.ingest.secret import secret_file
from tasks.maintenance.repair import repair
from tasks.maintenance.verify import verify
from tasks.spec import CorpusSection, IngestSection
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.ingest.specs import run, spec

TABLE = {"csv": "labels.csv", "image": "name", "label": "label", "patient_pattern": r"([a-z]+\d+)_"}
CORPUS = {"adapter": "table", "name": "ours", "private": True, "table": TABLE}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    names = [f"doe{p}_{eye}" for p in range(10, 30) for eye in ("l", "r")]
    for seed, name in enumerate(names):
        path = image(root / f"{name}.png", seed)
        exif = Image.Exif()
        exif[0x010E] = "doe, jane"
        Image.open(path).save(root / f"{name}.jpg", exif=exif)
        path.unlink()
    csv(root / "labels.csv", "name,label", [f"{n},{'xy'[i // 2 % 2]}" for i, n in enumerate(names)] + ["doe99_l,x"])
    (root / "doe10_l.jpg").write_bytes(b"")
    return root


def test_nothing_in_the_store_names_a_file_or_patient(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    run(spec(corpus, store, CORPUS), cluster)
    for name in store.sizes(""):
        data = store.get(name)
        if name.endswith(".parquet"):
            data = str(from_parquet(data).to_pylist()).encode()
        assert b"doe" not in data.lower(), name
        assert "doe" not in name


def test_keys_and_patients_are_keyed_hashes(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, CORPUS), cluster).manifest
    rows = from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist()
    assert all(re.fullmatch("[0-9a-f]{16}", row["key"]) and row["source"] == "" for row in rows)
    assert len({row["patient"] for row in rows if row["status"] != "missing"}) == 20
    (fault,) = manifest.quarantine
    assert re.fullmatch("[0-9a-f]{16}", fault.source)


def test_patients_stay_together(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, CORPUS), cluster).manifest
    splits: dict[str, set[str]] = {}
    for row in from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist():
        if row["status"] == "ok":
            splits.setdefault(row["patient"], set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}


def test_the_splits_are_those_of_any_other_store(corpus: Path, tmp_path: Path, cluster: Cluster) -> None:
    def split_of_bytes(store: LocalStore) -> dict[str, str]:
        manifest = run(spec(corpus, store, CORPUS), cluster).manifest
        rows = from_parquet(store.get(manifest.output(kind="catalog").name)).to_pylist()
        return {row["source_sha256"]: row["split"] for row in rows}

    assert split_of_bytes(LocalStore(tmp_path / "a")) == split_of_bytes(LocalStore(tmp_path / "b"))


def test_a_second_run_finds_everything(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    first = run(spec(corpus, store, CORPUS), cluster)
    again = run(spec(corpus, store, CORPUS), cluster)
    assert (again.made, again.manifest.digest) == (0, first.manifest.digest)


def test_shards_hold_pixels_and_labels_alone(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    manifest = run(spec(corpus, store, CORPUS), cluster).manifest
    with tarfile.open(fileobj=io.BytesIO(store.get(manifest.outputs[0].name))) as tar:
        for member in tar.getmembers():
            data = tar.extractfile(member).read()  # type: ignore[union-attr]
            assert re.fullmatch(r"[0-9a-f]{16}\.(jpg|json)", member.name)
            assert member.name.endswith(".jpg") or re.fullmatch(rb'\{"label":(-1|0|1)\}', data)


def test_the_budget_error_names_hashes(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(BudgetError) as caught:
        run(spec(corpus, store, CORPUS, ingest={"max_bad": 0, "max_bad_share": 0}), cluster)
    assert "doe" not in str(caught.value)
    assert re.search(r"[0-9a-f]{16}: not readable", str(caught.value))


def test_who_has_a_file_cannot_tell_that_it_is_here(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    run(spec(corpus, store, CORPUS), cluster)
    data = (corpus / "doe11_l.jpg").read_bytes()
    tables = [str(from_parquet(store.get(name)).to_pylist()) for name in store.sizes("") if name.endswith(".parquet")]
    assert len(tables) == 3
    assert not any(sha256_bytes(data) in table for table in tables)


def test_the_store_does_not_say_where_the_corpus_lies(corpus: Path, store: LocalStore, cluster: Cluster) -> None:
    run(spec(corpus, store, CORPUS), cluster)
    assert not any(str(corpus).encode() in store.get(name) for name in store.sizes(""))


def test_a_lost_secret_is_an_error_and_a_defect(corpus: Path, store: LocalStore, home: Path, cluster: Cluster) -> None:
    run(spec(corpus, store, CORPUS), cluster)
    assert verify(store).sound
    before = store.sizes("")
    secret_file("ours").rename(corpus / "elsewhere")
    with pytest.raises(CorpusError, match=r"the secret of private corpus ours is lost.*Restore"):
        run(spec(corpus, store, CORPUS), cluster)
    (defect,) = verify(store).defects
    assert (defect.kind, defect.object) == ("secret", "secret of ours")
    assert store.sizes("") == before
    assert not secret_file("ours").exists()


def test_another_secret_is_an_error_and_a_defect(corpus: Path, store: LocalStore, home: Path, cluster: Cluster) -> None:
    run(spec(corpus, store, CORPUS), cluster)
    secret_file("ours").write_bytes(b"2" * 32)
    with pytest.raises(CorpusError, match="is not the one that its store was made with"):
        run(spec(corpus, store, CORPUS), cluster)
    assert [defect.kind for defect in verify(store).defects] == ["secret"]


def test_a_secret_in_the_store_is_a_defect(store: LocalStore) -> None:
    store.put("secrets/ours.key", b"1" * 32)
    assert [defect.kind for defect in verify(store).defects] == ["secret"]


def test_a_lost_shard_is_made_again_where_the_corpus_is_named(
    corpus: Path, store: LocalStore, cluster: Cluster
) -> None:
    shard = run(spec(corpus, store, CORPUS), cluster).manifest.outputs[0].name
    before = store.get(shard)
    store.delete(shard)
    (left,) = repair(store, cluster).actions
    assert (left.action, "the store does not say where it lies: --root does" in left.detail) == ("left", True)
    assert repair(store, cluster, root=str(corpus)).whole
    assert store.get(shard) == before


def test_other_corpora_keep_their_keys(corpus: Path) -> None:
    section = CorpusSection.model_validate({**CORPUS, "root": corpus, "private": False})
    scanned = scan_corpus(section, IngestSection(), open_corpus(section))
    assert scanned.section.keys() == {"corpus", "ingest"}
