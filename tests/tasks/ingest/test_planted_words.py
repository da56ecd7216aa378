"""Words that stand in the cells, names, tags and archives of a private corpus are found nowhere after an ingest."""

from __future__ import annotations

import logging
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, TiffImagePlugin

from infra.compute.cluster import Cluster
from infra.errors import CorpusError, StillroomError
from infra.storage.store import LocalStore
from tasks.data.catalog import from_parquet
from tasks.ingest.private_words import PrivateWords
from tasks.ingest.shard import ShardItem, ShardJob, SourceChangedError, make_shard
from tasks.planning.counts import count_corpus
from tests.planted import findings
from tests.tasks.corpora.layouts import csv, eyepacs, image
from tests.tasks.ingest.specs import run, spec

WORD = "Mustermann"
CORPUS = {
    "adapter": "table",
    "name": "ours",
    "private": True,
    "classes": ["x", "y"],
    "table": {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient", "split": "split"},
}
HEADER = "name,label,patient,split"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 patients, both eyes; cells, names and tags of some hold the word."""
    root = tmp_path / "corpus"
    names = [f"{WORD}{p}_{eye}" for p in range(10, 30) for eye in "lr"]
    for seed, name in enumerate(names):
        image(root / f"{name}.jpg", seed)
    rows = [f"{n},{'xy'[i // 2 % 2]},{WORD} {i // 2}," for i, n in enumerate(names)]
    rows[0] = f"{names[0]},{WORD}'s finding,{WORD} 0,"
    rows += [f"{names[2]},{WORD},{WORD} 1,", f"{WORD}99_l,x,{WORD} 99,", *[f"{WORD}5{i}_l,x,unknown," for i in "12"]]
    csv(root / "labels.csv", HEADER, rows)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = f"patient {WORD}"
    Image.new("RGB", (24, 20)).save(root / f"{WORD}31_l.tif", tiffinfo=tags)
    data = (root / f"{WORD}31_l.tif").read_bytes()
    (root / f"{WORD}31_l.tif").write_bytes(data[:-900])
    (root / f"{WORD}32_l.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + WORD.encode() * 9)
    return root


def nothing_found(store: LocalStore, home: Path, text: str, capture: tuple[str, str]) -> None:
    assert WORD.lower() not in "\n".join([text, *capture]).lower()
    assert findings([store.root, home] if home.exists() else [store.root], [WORD]) == []


def test_an_ingest_keeps_cells_names_and_tags_to_itself(
    root: Path,
    store: LocalStore,
    home: Path,
    cluster: Cluster,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    manifest = run(spec(root, store, CORPUS), cluster).manifest
    # Whatever was wrong is counted and said by its kind.
    catalog = from_parquet(store.get(manifest.output(kind="catalog").name))
    reasons = sorted({reason for reason in catalog["reason"].to_pylist() if reason})
    assert reasons == [
        "a row of the table, and no such image",
        "its label is outside the classes",
        "its rows in the table disagree on its label",
        "not readable: damaged PNG",
        "not readable: the TIFF is cut off or damaged",
    ]
    assert "1 labels are outside the classes" in manifest.facts["notes"]
    nothing_found(store, home, caplog.text + str(manifest), capfd.readouterr())


def test_what_was_wrong_is_told_to_the_owner_alone(root: Path, store: LocalStore, home: Path, cluster: Cluster) -> None:
    run(spec(root, store, CORPUS), cluster)
    log = PrivateWords("ours").log
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert f'label "{WORD}\'s finding" is outside the classes' in log.read_text()
    assert not log.is_relative_to(home)
    assert not log.is_relative_to(store.root)


def wide_row(root: Path) -> Path:
    csv(root / "labels.csv", HEADER, [f"{WORD}10_l,x,{WORD} 1,", f"{WORD}11_l,x,{WORD} 1,,{WORD}"])
    return root


def odd_split(root: Path) -> Path:
    csv(root / "labels.csv", HEADER, [f"{WORD}10_l,x,{WORD} 1,{WORD}"])
    return root


def odd_header(root: Path) -> Path:
    csv(root / "labels.csv", f"{WORD},name,patient", [])
    return root


def no_label_fits(root: Path) -> Path:
    csv(root / "labels.csv", HEADER, [f"{WORD}10_l,{WORD},,"])
    return root


def archive_with_two_entries(root: Path) -> Path:
    place = root.with_name(f"{WORD}.zip")
    with zipfile.ZipFile(place, "w") as packed:
        packed.writestr(f"{WORD}.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr(f"{WORD}.jpg", b"2")
    return place


def archive_that_is_cut(root: Path) -> Path:
    place = root.with_name(f"{WORD}.zip")
    with zipfile.ZipFile(place, "w") as packed:
        packed.writestr(f"{WORD}.jpg", b"1" * 5000)
    place.write_bytes(place.read_bytes()[:-30])
    return place


def no_such_place(root: Path) -> Path:
    return root.with_name(f"{WORD}-was-here")


FAILURES = {
    wide_row: "more or fewer cells than its header",
    odd_split: "neither train, val nor test",
    odd_header: "lacks a column",
    no_label_fits: "no label of the table is among the classes",
    archive_with_two_entries: "an archive of the corpus",
    archive_that_is_cut: "an archive of the corpus",
    no_such_place: "corpus.root is not there",
}


@pytest.mark.parametrize("broken", FAILURES, ids=lambda broken: broken.__name__)
def test_an_ingest_that_fails_says_why_by_kind(
    broken: Callable[[Path], Path],
    root: Path,
    store: LocalStore,
    home: Path,
    no_cluster: Cluster,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    place = broken(root)
    with pytest.raises(CorpusError, match=f"private corpus ours: .*{FAILURES[broken]}.*ours.log") as caught:
        run(spec(place, store, CORPUS), no_cluster)
    assert caught.value.__suppress_context__
    nothing_found(store, home, caplog.text + repr(caught.value), capfd.readouterr())


def test_a_plan_that_fails_says_why_by_kind(root: Path, store: LocalStore, home: Path) -> None:
    with pytest.raises(CorpusError, match=r"private corpus ours: .*more or fewer cells") as caught:
        count_corpus(spec(wide_row(root), store, CORPUS), store)
    nothing_found(store, home, repr(caught.value), ("", ""))


def test_a_plan_tells_reasons_and_notes_by_kind(root: Path, store: LocalStore, home: Path) -> None:
    counts = count_corpus(spec(root, store, CORPUS), store)
    assert len(counts.sample.reasons) == 2
    nothing_found(store, home, str(counts.facts) + str(counts.sample.reasons), ("", ""))


def test_a_label_that_few_patients_have_becomes_no_class(
    root: Path, store: LocalStore, home: Path, no_cluster: Cluster
) -> None:
    with pytest.raises(CorpusError, match=r"fewer than 5 patients have 2 of its 4 label texts") as caught:
        run(spec(root, store, {**CORPUS, "classes": None}), no_cluster)
    nothing_found(store, home, repr(caught.value), ("", ""))


@pytest.fixture
def job(root: Path, store: LocalStore) -> ShardJob:
    """A shard whose one file is gone."""
    item = ShardItem("0123456789abcdef", f"{WORD}77_l.jpg", "f:1", "sha", 0, None)
    recipe = {"size": 16, "encode": "jpeg", "quality": 92, "crop": "none", "max_pixels": 1000}
    return ShardJob(store.url, str(root), "shards/ours/0", "train", 0, recipe, (item,), private="ours")


def test_a_file_that_is_gone_is_named_by_its_key(job: ShardJob, home: Path) -> None:
    with pytest.raises(SourceChangedError, match=r"the file of 0123456789abcdef") as caught:
        make_shard(job)
    assert WORD not in repr(caught.value)


def test_arguments_that_dask_logs_name_no_file(job: ShardJob) -> None:
    assert WORD not in repr(job)


def test_an_error_nobody_expected_is_worded_on_its_worker(job: ShardJob, home: Path) -> None:
    broken = ShardJob(**{**{n: getattr(job, n) for n in job.__dataclass_fields__}, "recipe": {WORD: 1}})
    with pytest.raises(StillroomError, match=r"private corpus ours: ingest ended in an error \(TypeError\)") as caught:
        make_shard(broken)
    assert WORD not in repr(caught.value)


def test_a_label_that_the_map_does_not_cover_is_said_by_kind(
    tmp_path: Path, store: LocalStore, home: Path, no_cluster: Cluster
) -> None:
    root = eyepacs(tmp_path / "e", {f"{WORD}1_left": 1, f"{WORD}2_left": WORD})  # type: ignore[dict-item]
    own = {"adapter": "eyepacs", "name": "ours", "private": True, "label_map": "referable"}
    with pytest.raises(CorpusError, match=r"corpus\.label_map does not cover a label .*ours\.log") as caught:
        run(spec(root, store, own), no_cluster)
    nothing_found(store, home, repr(caught.value), ("", ""))
