"""Several corpora as one training set: what it holds, and what it refuses."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorpusError
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tests.tasks.combine.hospitals import combined, entry, hospital, rows_of, spec_of


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Two hospitals that number their patients alike and name their images apart."""
    return hospital(tmp_path / "north", "n", seed=1), hospital(tmp_path / "south", "s", seed=2)


def test_the_shards_of_both_are_those_that_were_ingested(
    roots: tuple[Path, Path], store: LocalStore, cluster: Cluster
) -> None:
    found = combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster)
    assert [shard.name for shard in found.outputs_where(kind="shard")] == [
        name
        for title in ("north", "south")
        for name in (
            shard.name for shard in found.outputs_where(kind="shard") if shard.name.startswith(f"shards/{title}/")
        )
    ]
    assert len(store.sizes("shards/north/")) + len(store.sizes("shards/south/")) == len(store.sizes("shards/"))


def test_each_image_says_which_corpus_it_is_of(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    found = combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster)
    assert {(key[0], row["corpus"]) for key, row in rows_of(store, found).items()} == {("n", "north"), ("s", "south")}


def test_every_image_is_read_with_its_own_label(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    corpus = Corpus(store, combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster))
    rows = rows_of(store, corpus.manifest)
    read = {key: int(label) for shard in corpus.shards for key, label in zip(shard.keys, shard.label, strict=True)}
    assert read == {key: row["label"] for key, row in rows.items()}
    assert len(read) == 92


def test_facts_count_all_images(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    found = combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster).facts
    assert (sum(found["images"].values()), found["unlabelled"]) == (92, 12)
    assert [row["corpus"] for row in found["corpora"]] == ["north", "south"]


def test_equal_patient_numbers_of_two_hospitals_are_two_patients(
    roots: tuple[Path, Path], store: LocalStore, cluster: Cluster
) -> None:
    corpus = Corpus(store, combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster))
    assert corpus.manifest.facts["leaks_by"]["patient"] == 0
    assert len({str(name) for shard in corpus.shards for name in shard.patient}) == 46


def test_hospitals_that_share_their_patients_leak_where_splits_differ(
    roots: tuple[Path, Path], store: LocalStore, cluster: Cluster
) -> None:
    shared = {"patients": "city"}
    spec = spec_of(store, entry(roots[0], "north", **shared), entry(roots[1], "south", **shared, split={"seed": 9}))
    corpus = Corpus(store, combined(spec, store, cluster))
    places: dict[str, set[str]] = {}
    for shard in corpus.shards:
        for name in shard.patient:
            places.setdefault(str(name), set()).add(shard.split)
    leaking = {name for name, splits in places.items() if "train" in splits and len(splits) > 1}
    held = sum(str(name) in leaking for shard in corpus.shards if shard.split != "train" for name in shard.patient)
    assert corpus.manifest.facts["leaks_by"]["patient"] == held > 0


def test_a_copy_of_a_training_image_in_the_other_test_split_is_a_leak(
    roots: tuple[Path, Path], store: LocalStore, cluster: Cluster
) -> None:
    before = rows_of(
        store, combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster)
    )
    train = next(
        row for key, row in before.items() if row["corpus"] == "north" and row["split"] == "train" and row["label"] == 0
    )
    test = next(
        key for key, row in before.items() if row["corpus"] == "south" and row["split"] == "test" and row["label"] == 0
    )
    shutil.copy(roots[0] / train["source"], roots[1] / f"{test}.png")
    again = LocalStore(store.root.parent / "again")
    found = combined(spec_of(again, entry(roots[0], "north"), entry(roots[1], "south")), again, cluster)
    assert rows_of(again, found)[test]["leak"]
    assert found.facts["leaks_by"]["bytes"] == 1


def test_bytes_that_two_corpora_label_differently_are_left_out_of_both(
    roots: tuple[Path, Path], store: LocalStore, cluster: Cluster
) -> None:
    # 000 is dark, 002 is bright.
    shutil.copy(roots[0] / "n000.png", roots[1] / "s002.png")
    found = combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south")), store, cluster)
    out = {key for key, row in rows_of(store, found).items() if row["status"] == "left out"}
    assert out == {"n000", "s002"}
    assert any("2 images are left out" in note and "n000" in note for note in found.facts["notes"])


def test_a_corpus_for_testing_has_all_its_labelled_images_in_the_test_split(
    roots: tuple[Path, Path], store: LocalStore, cluster: Cluster
) -> None:
    spec = spec_of(store, entry(roots[0], "north"), entry(roots[1], "south", use="test"))
    found = combined(spec, store, cluster)
    rows = [row for row in rows_of(store, found).values() if row["corpus"] == "south"]
    assert Counter((row["split"], row["status"]) for row in rows) == {("test", "ok"): 40, ("test", "left out"): 6}
    assert {s.split for s in Corpus(store, found).shards if "/south/" in s.output.name} == {"test"}


def test_a_pool_may_have_other_labels_and_none_of_them_counts(
    roots: tuple[Path, Path], tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    other = hospital(tmp_path / "east", "e", seed=3, names=("mild", "severe"))
    found = combined(spec_of(store, entry(roots[0], "north"), entry(other, "east", use="pool")), store, cluster)
    rows = [row for row in rows_of(store, found).values() if row["corpus"] == "east"]
    assert {(row["split"], row["label"]) for row in rows} == {("train", -1)}
    assert found.facts["classes"] == ["bright", "dark"]
    assert found.facts["unlabelled"] == 6 + 46


def test_other_classes_are_refused_with_what_to_set(
    roots: tuple[Path, Path], tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    other = hospital(tmp_path / "east", "e", seed=3, names=("mild", "severe"))
    with pytest.raises(CorpusError, match=r"classes of north: bright, dark; of east: mild, severe.*label_map"):
        combined(spec_of(store, entry(roots[0], "north"), entry(other, "east")), store, cluster)


def test_another_kind_of_image_is_refused(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store, entry(roots[0], "north"), entry(roots[1], "south", modality="xray"))
    with pytest.raises(CorpusError, match="north has images of kind other, south of kind xray"):
        combined(spec, store, cluster)


def test_a_key_of_two_corpora_is_refused_and_a_prefix_mends_it(
    roots: tuple[Path, Path], tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    twin = hospital(tmp_path / "twin", "n", seed=4)
    with pytest.raises(
        CorpusError, match=r"46 images of twin have the key of an image of north, first n000.*key_prefix"
    ):
        combined(spec_of(store, entry(roots[0], "north"), entry(twin, "twin")), store, cluster)
    found = combined(
        spec_of(store, entry(roots[0], "north"), entry(twin, "other-twin", key_prefix="t-")), store, cluster
    )
    assert {key for key, row in rows_of(store, found).items() if row["corpus"] == "other-twin"} >= {"t-n000", "t-n045"}


def test_a_class_that_one_corpus_lacks_may_come_from_another(
    roots: tuple[Path, Path], tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    other = hospital(tmp_path / "east", "e", seed=3, names=("dark", "dark"))
    classes = {"classes": ["bright", "dark"]}
    found = combined(
        spec_of(store, entry(roots[0], "north", **classes), entry(other, "east", **classes)), store, cluster
    )
    assert found.facts["counts"]["train"]["bright"] > 0
    assert "east: no image of class bright in the train split" in found.facts["notes"]


def test_a_class_that_no_corpus_has_is_an_error(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    classes = {"classes": ["bright", "dark", "grey"]}
    spec = spec_of(store, entry(roots[0], "north", **classes), entry(roots[1], "south", **classes))
    with pytest.raises(CorpusError, match="corpora, all together: no training image of class grey"):
        combined(spec, store, cluster)


def test_one_corpus_may_be_stored_in_another_way(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    spec = spec_of(store, entry(roots[0], "north"), entry(roots[1], "south", ingest={"size": 16}))
    found = combined(spec, store, cluster)
    sizes = {str(shard.output.name).split("/")[1]: shard.lengths.mean() for shard in Corpus(store, found).shards}
    assert sizes["south"] < sizes["north"]
    assert any("a student prepares raw images as north's are" in note for note in found.facts["notes"])


def test_a_private_corpus_makes_the_set_private(roots: tuple[Path, Path], store: LocalStore, cluster: Cluster) -> None:
    found = combined(spec_of(store, entry(roots[0], "north"), entry(roots[1], "south", private=True)), store, cluster)
    assert found.facts["private"] is True
    assert not any(key.startswith("s0") for key in rows_of(store, found))


def test_new_images_of_one_corpus_make_no_shard_of_the_other_again(
    roots: tuple[Path, Path], tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    spec = spec_of(store, entry(roots[0], "north"), entry(roots[1], "south"))
    before = combined(spec, store, cluster)
    hospital(roots[1], "s", images=60, seed=2)
    after = combined(spec, store, cluster)
    north = [[o for o in m.outputs_where(kind="shard") if "/north/" in o.name] for m in (before, after)]
    assert north[0] == north[1]
    assert sum(after.facts["images"].values()) == 92 + 20
