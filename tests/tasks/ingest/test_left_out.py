"""`corpus.where`: images that take no part, though the shards hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorpusError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.distill.request import label_digest, training_rows
from tasks.ingest.summary import preview
from tasks.spec import Spec
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.corpora.public_layouts import chexpert
from tests.tasks.ingest.specs import run, spec

TABLE = {
    "csv": "labels.csv",
    "image": "name",
    "label": "label",
    "patient": "patient",
    "attributes": {"site": "site", "age": "age", "date": "date", "projection": "view", "gradable": "gradable"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """80 images of forty patients: two sites, ages 20 to 59, two years, every second one unlabelled."""
    rows = []
    for number in range(80):
        patient = number // 2
        image(tmp_path / f"c/n{number:02d}.png", number)
        label = "xy"[patient % 2] if number % 2 else ""
        view = ("AP", "PA", "lateral", "")[patient % 4]
        rows.append(
            f"n{number:02d},{label},p{patient},{('North', 'South')[patient // 2 % 2]},{20 + patient},"
            f"{2018 + patient // 20}-05-0{1 + patient % 9},{view},{int(number != 2)}"
        )
    csv(tmp_path / "c/labels.csv", "name,label,patient,site,age,date,view,gradable", rows)
    return tmp_path / "c"


def given(root: Path, store: LocalStore, **corpus: object) -> Spec:
    return spec(root, store, {"adapter": "table", "name": "ours", "table": TABLE, **corpus})


def corpus_of(root: Path, store: LocalStore, cluster: Cluster, **rest: object) -> Corpus:
    manifest: Manifest = run(given(root, store, **rest), cluster).manifest
    return Corpus(store, manifest)


def used(corpus: Corpus) -> set[str]:
    return {str(key) for shard in corpus.shards for key in shard.keys[shard.used]}


def attribute(corpus: Corpus, name: str) -> set[Any]:
    keys = used(corpus)
    return {row[name] for row in corpus.catalog.to_pylist() if row["key"] in keys}


def test_another_where_makes_no_shard_again(root: Path, store: LocalStore, cluster: Cluster) -> None:
    corpus_of(root, store, cluster)
    shards = set(store.sizes("shards"))
    found = corpus_of(root, store, cluster, where={"site": "North"})
    assert attribute(found, "site") == {"North"}
    assert len(used(found)) == 39  # n02 cannot be graded
    assert set(store.sizes("shards")) == shards


def test_images_keep_their_split_and_come_back(root: Path, store: LocalStore, cluster: Cluster) -> None:
    before = corpus_of(root, store, cluster).catalog.select(["key", "split", "label", "status"])
    corpus_of(root, store, cluster, where={"site": "North"})
    assert corpus_of(root, store, cluster).catalog.select(["key", "split", "label", "status"]) == before


def test_images_left_out_have_no_label_and_are_no_pool(root: Path, store: LocalStore, cluster: Cluster) -> None:
    whole, part = corpus_of(root, store, cluster), corpus_of(root, store, cluster, where={"site": "North"})
    out = [shard.label[~shard.used] for shard in part.shards]
    assert set(np.concatenate(out).tolist()) == {-1}
    assert training_rows(part, "all") < training_rows(whole, "all")
    assert label_digest(part, "train") != label_digest(whole, "train")


def test_facts_count_what_is_used(root: Path, store: LocalStore, cluster: Cluster) -> None:
    found = corpus_of(root, store, cluster, where={"site": "North"})
    facts = found.manifest.facts
    assert (sum(facts["images"].values()), facts["left_out"]) == (39, 41)
    assert "40 images are left out by corpus.where: site" in facts["notes"]


def test_a_preview_counts_the_same(root: Path, store: LocalStore, cluster: Cluster) -> None:
    asked = given(root, store, where={"site": "North"})
    before = preview(asked, store).facts
    facts = run(asked, cluster).manifest.facts
    assert {name: before[name] for name in ("images", "counts", "left_out")} == {
        name: facts[name] for name in ("images", "counts", "left_out")
    }


def test_a_range_of_ages(root: Path, store: LocalStore, cluster: Cluster) -> None:
    found = corpus_of(root, store, cluster, where={"age": {"from": 25, "to": 54}})
    assert attribute(found, "age") == set(range(25, 55))


def test_a_range_of_dates_may_name_a_year(root: Path, store: LocalStore, cluster: Cluster) -> None:
    found = corpus_of(root, store, cluster, where={"date": {"from": "2019"}})
    assert {date[:4] for date in attribute(found, "date")} == {"2019"}


def test_frontal_is_every_frontal_projection(root: Path, store: LocalStore, cluster: Cluster) -> None:
    found = corpus_of(root, store, cluster, where={"projection": "frontal"})
    assert attribute(found, "projection") == {"AP", "PA"}
    (note,) = (note for note in found.manifest.facts["notes"] if "corpus.where" in note)
    assert note == "40 images are left out by corpus.where: projection, of them 20 whose projection is not known"


def test_an_unlabelled_image_that_cannot_be_graded_teaches_nobody(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    found = corpus_of(root, store, cluster)
    assert "n02" not in used(found)
    assert "1 unlabelled images cannot be graded and teach nobody (corpus.ungradable)" in found.manifest.facts["notes"]
    assert "n02" in used(corpus_of(root, store, cluster, ungradable="use"))


def test_a_value_that_no_image_has_names_those_there_are(root: Path, store: LocalStore, cluster: Cluster) -> None:
    match = r"no image has site 'Nort', the corpus has South \(40\), North \(39\); did you mean 'North'\?"
    with pytest.raises(CorpusError, match=match):
        corpus_of(root, store, cluster, where={"site": "Nort"})


def test_a_range_that_leaves_nothing_is_an_error(root: Path, store: LocalStore, cluster: Cluster) -> None:
    with pytest.raises(CorpusError, match=r"no image is left by age; the corpus has 20 \(2\)"):
        corpus_of(root, store, cluster, where={"age": {"from": 90}})


def test_a_class_that_is_left_out_whole_is_an_error_before_anything_is_decoded(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    with pytest.raises(CorpusError, match=r"no training image of class y"):
        corpus_of(root, store, cluster, where={"projection": "AP"}, split={"val": 0.0, "test": 0.0})
    assert not store.sizes("shards")


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ({"site": {"from": "A"}}, "site has no order: give a list of values"),
        ({"age": {"from": "old"}}, "age 'old': years are expected"),
        ({"date": {"to": "1.5.2019"}}, "date '1.5.2019': 2019-05-31 is expected"),
        ({"age": {}}, "give from, to, or both"),
        ({"colour": ["red"]}, "colour"),
    ],
)
def test_a_filter_that_means_nothing_is_wrong_in_the_spec(
    root: Path, store: LocalStore, where: dict[str, object], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        given(root, store, where=where)


def test_a_test_split_by_site_takes_patients_whole(root: Path, store: LocalStore, cluster: Cluster) -> None:
    with (root / "labels.csv").open("a") as table:
        table.write("n80,x,p0,South,20,2018-05-01,AP,1\n")  # p0 is of North
    image(root / "n80.png", 80)
    found = corpus_of(root, store, cluster, split={"test_where": {"site": "South"}})
    rows = found.catalog.to_pylist()
    assert {row["site"] for row in rows if row["split"] != "test"} == {"North"}
    assert {row["split"] for row in rows if row["patient"] == "p0"} == {"test"}
    assert found.manifest.facts["official"] == ["test", "train"]


def test_a_test_split_by_site_of_a_corpus_with_splits_is_refused(
    tmp_path: Path, store: LocalStore, cluster: Cluster
) -> None:
    asked = spec(
        chexpert(tmp_path / "x"), store, {"adapter": "chexpert", "split": {"test_where": {"projection": "lateral"}}}
    )
    with pytest.raises(CorpusError, match=r"the corpus has splits of its own \(test, train\); leave it out"):
        run(asked, cluster)


def gradable(corpus: Corpus) -> dict[str, bool | None]:
    return dict(zip(corpus.catalog["key"].to_pylist(), corpus.catalog["gradable"].to_pylist(), strict=True))


def unsaid(root: Path) -> None:
    """Nobody says whether images can be graded, but of n01, which can, and of n02, which cannot."""
    lines = (root / "labels.csv").read_text().splitlines()
    said = {"n01": "1", "n02": "0"}
    rows = [f"{line.rpartition(',')[0]},{said.get(line[:3], '')}" for line in lines[1:]]
    csv(root / "labels.csv", lines[0], rows)


def test_images_below_min_quality_are_ungradable_where_nobody_said(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    unsaid(root)
    found = corpus_of(root, store, cluster, min_quality=1)
    marks = gradable(found)
    assert marks.pop("n01") is True
    assert set(marks.values()) == {False}
    assert used(found) == {f"n{number:02d}" for number in range(1, 80, 2)}  # the labelled ones
    notes = found.manifest.facts["notes"]
    assert "78 images are below corpus.min_quality 1 and count as ungradable" in notes
    assert "40 unlabelled images cannot be graded and teach nobody (corpus.ungradable)" in notes


def test_another_min_quality_changes_the_catalog_alone(root: Path, store: LocalStore, cluster: Cluster) -> None:
    unsaid(root)
    before = gradable(corpus_of(root, store, cluster))
    shards = set(store.sizes("shards"))
    corpus_of(root, store, cluster, min_quality=1)
    assert gradable(corpus_of(root, store, cluster)) == before
    assert set(store.sizes("shards")) == shards


def test_an_image_that_is_gone_is_judged_by_the_min_quality_of_today(
    root: Path, store: LocalStore, cluster: Cluster
) -> None:
    unsaid(root)
    corpus_of(root, store, cluster, min_quality=1)
    lines = (root / "labels.csv").read_text().splitlines()
    csv(root / "labels.csv", lines[0], [line for line in lines[1:] if not line.startswith("n79,")])
    (root / "n79.png").unlink()
    assert gradable(corpus_of(root, store, cluster, min_quality=1))["n79"] is False
    assert gradable(corpus_of(root, store, cluster))["n79"] is None


def test_min_quality_outside_of_0_to_1_is_wrong_in_the_spec(root: Path, store: LocalStore) -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        given(root, store, min_quality=50)


def test_a_spec_without_min_quality_is_the_same_as_before(root: Path, store: LocalStore) -> None:
    assert "min_quality" not in given(root, store).corpus.identity()
    assert given(root, store, min_quality=0.3).corpus.identity_of_use() == {"min_quality": 0.3}


def test_where_may_name_gradability_that_follows_from_quality(root: Path, store: LocalStore, cluster: Cluster) -> None:
    unsaid(root)
    asked = given(root, store, min_quality=1, where={"gradable": "no"})
    assert "left_out" not in preview(asked, store).facts  # nothing is known before the images are read
    manifest = run(asked, cluster).manifest
    assert used(Corpus(store, manifest)) == {f"n{number:02d}" for number in range(3, 80, 2)}
    assert preview(asked, store).facts["left_out"] == manifest.facts["left_out"] == 41
