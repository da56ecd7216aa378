"""Our splits stratified by attributes beside the label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import CorpusError
from infra.storage.store import LocalStore
from tasks.data.catalog import SPLITS
from tasks.ingest.image_table import ImageTable
from tasks.ingest.splits import EarlierSplits, assign_splits
from tasks.ingest.strata import spread, stratum_values
from tasks.ingest.summary import preview
from tasks.spec import CorpusSection, SplitSection
from tests.tasks.corpora.layouts import csv, image
from tests.tasks.ingest.image_tables import Image, table_of
from tests.tasks.ingest.specs import spec

NOTHING = pa.array([], pa.string())


def split(images: ImageTable, official: tuple[str, ...] = (), **section: Any) -> list[str]:
    """The split of each row, none of which was stored before."""
    before = EarlierSplits(np.full(len(images), -1, np.int8), NOTHING, np.array([], np.int8))
    assign_splits(images, SplitSection(**section), frozenset(official), before)
    return [SPLITS[code] for code in images.numbers("split")]


def patients(attributes: dict[str, list[str]], classes: int = 2, of_each: int = 1) -> ImageTable:
    """One patient a row, with labels in turn and attributes by column."""
    rows = len(next(iter(attributes.values())))
    images = table_of([Image(f"i{n:04d}", f"p{n // of_each}", n // of_each % classes) for n in range(rows)])
    for name, values in attributes.items():
        images.set_text(name, np.ones(rows, bool), pa.array(values))
    return images


def test_every_site_has_its_share_however_many_labels_divide_it() -> None:
    # 10 patients of a site in 5 classes: two of each, of which rounding alone would hold out none.
    sites = [f"s{n % 12}" for n in range(120)]
    images = patients({"site": sites}, classes=5)
    found = Counter(zip(sites, split(images, stratify=["site"]), strict=True))
    assert {found[f"s{n}", "test"] for n in range(12)} <= {1, 2, 3}
    assert {found[f"s{n}", "val"] for n in range(12)} <= {1, 2}
    assert sum(found[f"s{n}", "test"] for n in range(12)) == 25


def test_labels_keep_their_shares_as_without_attributes() -> None:
    images = patients({"site": [f"s{n % 7}" for n in range(200)]}, classes=4)
    labels = images.numbers("label").tolist()
    plain, stratified = split(images), split(images, stratify=["site"])
    assert plain != stratified
    assert Counter(zip(labels, plain, strict=True)) == Counter(zip(labels, stratified, strict=True))


def test_a_value_of_each_attribute_makes_a_stratum() -> None:
    sites, cameras = [f"s{n % 2}" for n in range(80)], [f"c{n // 2 % 2}" for n in range(80)]
    found = split(patients({"site": sites, "camera": cameras}, classes=1), stratify=["site", "camera"], test=0.25)
    assert {n for (_, _, s), n in Counter(zip(sites, cameras, found, strict=True)).items() if s == "test"} == {5}


def test_images_of_which_nothing_is_known_are_a_stratum() -> None:
    sites = ["a"] * 40 + [""] * 20
    found = Counter(zip(sites, split(patients({"site": sites}, classes=1), stratify=["site"]), strict=True))
    assert (found["a", "test"], found["", "test"]) == (8, 4)


def test_a_patient_of_several_sites_is_of_the_rarest_and_stays_whole() -> None:
    sites = [site for n in range(40) for site in ("big", "small" if n < 10 else "big")]
    found = split(patients({"site": sites}, classes=1, of_each=2), stratify=["site"])
    assert found[::2] == found[1::2]
    assert found[:20:2].count("test") == 2


def test_ages_are_banded_and_dates_are_years() -> None:
    images = patients({"age": ["17.9", "18", "64", "65", ""], "date": ["2019-05-31", "2019", "", "2020-01", "2021"]})
    assert stratum_values(images, "age").to_pylist() == ["0 to 17", "18 to 39", "40 to 64", "65 and above", ""]
    assert stratum_values(images, "date").to_pylist() == ["2019", "2019", "", "2020", "2021"]


@given(st.permutations(range(24)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    images = patients({"site": [f"s{n % 5}" for n in range(24)], "camera": [f"c{n % 3}" for n in range(24)]})
    moved = ImageTable.of(
        24,
        None,
        label=images.numbers("label")[order],
        official=images.numbers("official")[order],
        **{
            name: images.text(name).take(pa.array(order))
            for name in ("key", "source", "path", "source_sha256", "patient", "split_key", "status", "site", "camera")
        },
    )
    found = split(images, stratify=["site", "camera"])
    assert split(moved, stratify=["site", "camera"]) == [found[row] for row in order]


@given(
    st.lists(st.tuples(st.floats(-3, 9), st.integers(0, 8)), min_size=1, max_size=8),
    st.data(),
)
def test_strata_give_what_is_wanted_as_near_as_whole_numbers_allow(
    strata: list[tuple[float, int]], data: st.DataObject
) -> None:
    wanted, most = [w for w, _ in strata], [m for _, m in strata]
    total = data.draw(st.integers(0, sum(most)))
    given_ = spread(total, wanted, most)
    assert sum(given_) == total
    assert all(0 <= one <= limit for one, limit in zip(given_, most, strict=True))
    # None that could give more lags behind another by more than one.
    lags = [want - one for want, one in zip(wanted, given_, strict=True)]
    rest = [lag for lag, one, limit in zip(lags, given_, most, strict=True) if one < limit]
    used = [lag for lag, one in zip(lags, given_, strict=True) if one]
    assert not rest or not used or max(rest) <= min(used) + 1 + 1e-9


def test_an_attribute_that_no_image_has_is_an_error() -> None:
    images = patients({"site": ["a"] * 10})
    with pytest.raises(CorpusError, match=r"corpus\.split\.stratify: no image of the corpus has camera; leave it out"):
        split(images, stratify=["site", "camera"])


def test_a_corpus_with_splits_of_its_own_is_not_stratified() -> None:
    images = table_of([Image("a", "1", 0, "train"), Image("b", "2", 0, "val"), Image("c", "3", 0, "test")])
    with pytest.raises(CorpusError, match=r"corpus\.split\.stratify: the corpus has all splits of its own"):
        split(images, ("train", "val", "test"), stratify=["site"])


def test_what_is_unset_is_no_part_of_the_identity() -> None:
    plain = CorpusSection(adapter="eyepacs", root="/x")
    assert plain.identity()["split"].keys() == {"official", "test_fold", "val", "test", "seed"}
    named = CorpusSection(adapter="eyepacs", root="/x", split=SplitSection(stratify=["eye"], near_duplicates="ignore"))
    assert named.identity()["split"] == plain.identity()["split"] | {"stratify": ["eye"], "near_duplicates": "ignore"}


def test_an_attribute_is_named_once() -> None:
    with pytest.raises(ValueError, match="stratify names an attribute twice"):
        SplitSection(stratify=["site", "site"])


@pytest.mark.parametrize("private", [False, True])
def test_sites_of_a_table_have_their_share(private: bool, tmp_path: Path, store: LocalStore) -> None:
    root = tmp_path / "corpus"
    names = [f"n{n:03d}" for n in range(60)]
    for seed, name in enumerate(names):
        image(root / f"{name}.png", seed)
    rows = [f"{name},{'xy'[n % 2]},p{n},{'Nord' if n % 10 == 0 else 'Sued'}" for n, name in enumerate(names)]
    csv(root / "labels.csv", "name,label,patient,ward", rows)
    table = {"csv": "labels.csv", "image": "name", "label": "label", "patient": "patient"}
    corpus = {
        "adapter": "table",
        "name": "ours",
        "private": private,
        "table": table | {"attributes": {"site": "ward"}},
        "split": {"stratify": ["site"], "test_where": None},
    }
    assert preview(spec(root, store, corpus), store).facts["images"] == {"train": 38, "val": 10, "test": 12}
    missing = corpus | {"split": {"stratify": ["camera"]}}
    with pytest.raises(CorpusError, match="no image of the corpus has camera") as caught:
        preview(spec(root, store, missing), store)
    assert "Nord" not in str(caught.value)
