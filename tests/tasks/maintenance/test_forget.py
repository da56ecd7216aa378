"""Forget: nothing of the erased images is left, nothing comes back, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.errors import PermanentError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.catalog import table_of
from tasks.data.soft_labels import SoftLabelReader
from tasks.maintenance.forgetting.forget import forget
from tasks.maintenance.under_way import RunRecord
from tasks.maintenance.verify import verify
from tests.tasks.corpora.layouts import csv, eyepacs, image, many_patients
from tests.tasks.ingest.specs import run, spec
from tests.tasks.ingest.videos import videos
from tests.tasks.maintenance.conftest import IngestedStore
from tests.tasks.maintenance.erasing import contents_of, corpus_of, label_store, labels_of, rows_of, search, traces


def test_a_search_of_every_byte_finds_nothing(own: IngestedStore, patient: str) -> None:
    wanted = traces(own.store, patient, labels_of(own.store))
    assert {line.partition(" in ")[0] for line in search(own.store, wanted)} == set(wanted)
    report = forget(own.store, patients=[patient])
    assert search(own.store, wanted) == []
    assert [(each.title, each.images) for each in report.corpora] == [("eyepacs", 2)]
    assert verify(own.store).defects == ()


def test_other_images_keep_their_bytes(own: IngestedStore, patient: str) -> None:
    def images() -> dict[str, bytes]:
        corpus = corpus_of(own.store)
        return {
            str(key): own.store.get(shard.output.name)[offset : offset + length]
            for shard in corpus.shards
            for key, offset, length in zip(shard.keys, shard.offsets, shard.lengths, strict=True)
        }

    before = images()
    forget(own.store, patients=[patient])
    after = images()
    assert {key: data for key, data in before.items() if not key.startswith(f"{patient}_")} == after


def test_rewritten_shards_are_those_that_an_ingest_without_the_patient_makes(
    own: IngestedStore, patient: str, cluster: Cluster
) -> None:
    before = set(own.shards)
    forget(own.store, patients=[patient])
    (name,) = set(own.shards) - before
    whole = own.store.get(name)
    own.store.delete(name)
    assert run(spec(own.corpus, own.store), cluster).made >= 1
    assert own.store.get(name) == whole


def predictions(store: LocalStore, labels: Manifest) -> dict[tuple[str, int], tuple[str, list[float]]]:
    """By key and view: the key of the partner, "" for none, and the logits."""
    corpus = corpus_of(store)
    reader, found = SoftLabelReader(corpus, [labels]), {}
    for number, shard in enumerate(corpus.shards):
        for view in range(3 if shard.split == "train" else 1):
            rows = reader.rows(number, view)
            partner = rows.partner if rows.partner is not None else np.full(len(shard), -1)
            for row, key in enumerate(shard.keys):
                other = str(shard.keys[partner[row]]) if partner[row] >= 0 else ""
                found[str(key), view] = (other, rows.logits[0, row].tolist())
    return found


def test_soft_labels_of_others_are_what_they_were(
    own: IngestedStore, patient: str, weights: Path, cluster: Cluster
) -> None:
    before = predictions(own.store, labels_of(own.store))
    kept = forget(own.store, patients=[patient]).corpora[0]
    after = predictions(own.store, label_store(own.store, weights, cluster))
    same = {at for at, (partner, _) in after.items() if before[at][0] == partner}
    assert {at: after[at] for at in same} == {at: before[at] for at in same}
    assert all(after[at][1] != before[at][1] for at in after.keys() - same)
    assert kept.labels_kept > 0
    assert 0 < kept.labels_again <= len(after) - len(same)


def test_labels_are_made_again_only_where_a_partner_was_erased(
    own: IngestedStore, patient: str, weights: Path, cluster: Cluster
) -> None:
    plain = {o.unit for o in labels_of(own.store).outputs if o.meta["view"] == 0}
    touched = {number for number, _ in rows_of(corpus_of(own.store), patient)}
    forget(own.store, patients=[patient])
    units = {name.rpartition("/")[2].removesuffix(".json") for name in own.store.sizes("units/label/")}
    again = label_store(own.store, weights, cluster)
    new = [o for o in again.outputs if o.unit not in units]
    assert {(o.meta["shard"], o.meta["view"]) for o in new} == {(n, v) for n in touched for v in (1, 2)}
    assert len([o for o in again.outputs if o.meta["view"] == 0 and o.unit not in plain]) == len(touched)


def test_the_patient_s_images_are_not_ingested_again(own: IngestedStore, patient: str, cluster: Cluster) -> None:
    wanted = traces(own.store, patient)
    forget(own.store, patients=[patient])
    image(own.corpus / "train" / f"{patient}_third.jpeg", 901)
    image(own.corpus / "train" / "41_left.jpeg", 902)
    manifest = run(spec(own.corpus, own.store), cluster).manifest
    keys = set(corpus_of(own.store).catalog["key"].to_pylist())
    assert "41_left" in keys
    assert not {key for key in keys if key.startswith(f"{patient}_")}
    assert search(own.store, wanted) == []
    assert "3 images or rows were erased from the store by request and are left out" in manifest.facts["notes"]


def test_a_copy_of_an_erased_file_is_known_by_its_bytes(own: IngestedStore, patient: str, cluster: Cluster) -> None:
    wanted = traces(own.store, patient)
    forget(own.store, patients=[patient])
    (own.corpus / "train" / f"{patient}_left.jpeg").rename(own.corpus / "train" / "77_left.jpeg")
    run(spec(own.corpus, own.store), cluster)
    assert "77_left" not in corpus_of(own.store).catalog["key"].to_pylist()
    assert search(own.store, wanted) == []


def test_another_file_may_have_the_key_of_an_erased_one(own: IngestedStore, cluster: Cluster) -> None:
    key = str(corpus_of(own.store).shards[0].keys[0])
    forget(own.store, keys=[key])
    (own.corpus / "train" / f"{key}.jpeg").unlink()
    image(own.corpus / "train" / f"{key}.png", 903)
    run(spec(own.corpus, own.store), cluster)
    assert key in corpus_of(own.store).catalog["key"].to_pylist()


@pytest.mark.parametrize("name", ["key", "path"])
def test_one_image_goes_by_key_or_path(own: IngestedStore, patient: str, cluster: Cluster, name: str) -> None:
    key = f"{patient}_left"
    forget(own.store, keys=[key if name == "key" else f"train/{key}.jpeg"])
    run(spec(own.corpus, own.store), cluster)
    keys = corpus_of(own.store).catalog["key"].to_pylist()
    assert (key in keys, f"{patient}_right" in keys) == (False, True)


def test_a_shard_of_which_nothing_is_left_goes(own: IngestedStore, cluster: Cluster) -> None:
    corpus = corpus_of(own.store)
    number = min(range(len(corpus.shards)), key=lambda at: len(corpus.shards[at]))
    shard = corpus.shards[number]
    forget(own.store, keys=[str(key) for key in shard.keys])
    assert len(own.shards) == len(corpus.shards) - 1
    assert verify(own.store).defects == ()
    run(spec(own.corpus, own.store), cluster)
    assert verify(own.store).defects == ()


def test_older_versions_of_the_corpus_lose_the_patient_too(own: IngestedStore, patient: str, cluster: Cluster) -> None:
    wanted = traces(own.store, patient)
    image(own.corpus / "train" / "42_left.jpeg", 904)
    run(spec(own.corpus, own.store), cluster)
    run(spec(own.corpus, own.store, ingest={"size": 24}), cluster)
    wanted |= {f"larger {what}": data for what, data in traces(own.store, patient).items()}
    assert len(own.store.sizes("manifests/ingest/")) == 3
    forget(own.store, patients=[patient])
    assert search(own.store, wanted) == []
    assert verify(own.store).defects == ()


def test_a_second_erasure_keeps_what_the_first_kept(
    own: IngestedStore, patient: str, weights: Path, cluster: Cluster
) -> None:
    corpus = corpus_of(own.store)
    first = rows_of(corpus, patient)[0][0]
    other = next(str(name) for name in corpus.shards[first].patient if name != patient)
    forget(own.store, patients=[patient])
    report = forget(own.store, patients=[other])
    assert report.corpora[0].labels_kept > 0
    manifest = label_store(own.store, weights, cluster)
    assert manifest.facts["invalid"] == 0
    assert verify(own.store).defects == ()


def test_nothing_is_left_to_erase_when_it_is_started_again(own: IngestedStore, patient: str) -> None:
    forget(own.store, patients=[patient])
    names = own.store.stamps("")
    assert forget(own.store, patients=[patient]).corpora == []
    assert forget(own.store).corpora == []
    assert {name for name in own.store.stamps("") if not name.startswith("forgotten/")} <= set(names)


def test_a_dry_run_writes_nothing(own: IngestedStore, patient: str) -> None:
    names = own.store.stamps("")
    report = forget(own.store, patients=[patient], dry=True)
    assert (report.done, report.corpora[0].images) == (False, 2)
    assert own.store.stamps("") == names


def test_a_patient_of_no_corpus_is_refused(own: IngestedStore, patient: str) -> None:
    names = own.store.stamps("")
    with pytest.raises(UsageError, match=r"1 of 2 patients are in no corpus .eyepacs.: number 2 of the request"):
        forget(own.store, patients=[patient, "nobody"])
    with pytest.raises(UsageError, match="is blank; nothing was erased"):
        forget(own.store, patients=[""])
    assert {name for name in own.store.stamps("") if not name.startswith("locks/")} == set(names)


def test_a_patient_of_several_corpora_needs_the_corpus_s_name(
    own: IngestedStore, patient: str, tmp_path: Path, cluster: Cluster
) -> None:
    other = eyepacs(tmp_path / "other", many_patients(20))
    run(spec(other, own.store, {"name": "other"}), cluster)
    with pytest.raises(UsageError, match=r"several corpora .eyepacs, other., where it may be another's"):
        forget(own.store, patients=[patient])
    forget(own.store, patients=[patient], corpus="other")
    assert rows_of(corpus_of(own.store), patient)
    assert not rows_of(corpus_of(own.store, "other"), patient)


def test_a_run_under_way_comes_first(own: IngestedStore, patient: str) -> None:
    with RunRecord(own.store, "running", "spec"), pytest.raises(PermanentError, match=r"runs/running\.json: a run is"):
        forget(own.store, patients=[patient])
    assert rows_of(corpus_of(own.store), patient)
    assert not own.store.sizes("forgotten/")


def test_a_label_row_without_an_image_goes_too(own: IngestedStore, cluster: Cluster) -> None:
    grades = (own.corpus / "trainLabels.csv").read_text()
    (own.corpus / "trainLabels.csv").write_text(f"{grades}55_left,1\n")
    run(spec(own.corpus, own.store), cluster)
    assert "55_left" in corpus_of(own.store).catalog["key"].to_pylist()
    forget(own.store, patients=["55"])
    run(spec(own.corpus, own.store), cluster)
    assert not [name for name, data in contents_of(own.store) if b"55_left" in data]


def test_an_unreadable_file_goes_too(own: IngestedStore, cluster: Cluster) -> None:
    assert [name for name, data in contents_of(own.store) if b"30_left" in data]
    forget(own.store, patients=["30"])
    assert not [name for name, data in contents_of(own.store) if b"30_left" in data]
    run(spec(own.corpus, own.store), cluster)
    assert corpus_of(own.store).manifest.quarantine == []


def test_counts_and_leaks_are_those_of_the_other_images(own: IngestedStore, patient: str, cluster: Cluster) -> None:
    forget(own.store, patients=[patient])
    facts = own.manifest.facts
    run(spec(own.corpus, own.store), cluster)
    now = own.manifest.facts
    names = ("counts", "images", "unlabelled", "leaks", "leaks_by", "doubles", "missing", "quarantined")
    assert {name: facts[name] for name in names} == {name: now[name] for name in names}


def test_a_private_corpus_is_asked_by_the_patient_s_name(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = tmp_path / "corpus"
    names = [f"doe{p}_{eye}" for p in range(10, 30) for eye in ("l", "r")]
    for seed, name in enumerate(names):
        image(root / f"{name}.png", seed)
    csv(root / "labels.csv", "name,label", [f"{n},{'xy'[i // 2 % 2]}" for i, n in enumerate(names)])
    table = {"csv": "labels.csv", "image": "name", "label": "label", "patient_pattern": r"([a-z]+\d+)_"}
    section = {"adapter": "table", "name": "ours", "private": True, "table": table}
    run(spec(root, store, section), cluster)
    catalog = corpus_of(store, "ours").catalog
    report = forget(store, patients=["doe14"])
    left = corpus_of(store, "ours").catalog
    gone = set(catalog["patient"].to_pylist()) - set(left["patient"].to_pylist())
    assert (report.corpora[0].images, report.corpora[0].private, len(gone)) == (2, True, 1)
    run(spec(root, store, section), cluster)
    shown = b"".join(data for _, data in contents_of(store))
    keys = set(catalog["key"].to_pylist()) - set(left["key"].to_pylist())
    assert [text for text in (*gone, *keys) if text.encode() in shown] == []
    assert verify(store).defects == ()


def test_remembered_hashes_of_erased_images_go(tmp_path: Path, store: LocalStore, cluster: Cluster) -> None:
    root = videos(tmp_path / "frames")
    corpus = {"adapter": "folder", "modality": "endoscopy", "folder": {"layout": "{label}"}}
    given = spec(root, store, corpus, ingest={"size": 64})
    manifest = run(given, cluster).manifest
    index = table_of(store, manifest, "index")
    key, phash = str(index["key"][0]), index["phash"][0].as_py()
    assert [name for name, data in contents_of(store) if phash in data and name.startswith("listings/")] == [
        "listings/folder.hashes.parquet"
    ]
    forget(store, keys=[key])
    assert not any(phash in data for _, data in contents_of(store))
    again = run(given, cluster).manifest
    assert key not in table_of(store, again, "index")["key"].to_pylist()
    assert not any(phash in data for _, data in contents_of(store))
