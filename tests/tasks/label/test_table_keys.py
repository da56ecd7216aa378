"""Tables whose keys are not the corpus's, or that lack many images, before a shard is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.compute.cluster import Cluster
from infra.errors import BudgetError, UsageError
from infra.storage.store import LocalStore
from tasks.spec import Spec
from tests.tasks.label.teachers import spec_of, works_of
from tests.tiny import tiny_corpus


def spec_with(store: LocalStore, folder: Path, keys: list[str]) -> Spec:
    pq.write_table(pa.table({"key": keys, "logits": [[2.0, 0.0, -1.0]] * len(keys)}), folder / "logits.parquet")
    return spec_of(store, folder, teachers=[{"name": "file", "model": f"table:{folder / 'logits.parquet'}"}])


@pytest.mark.parametrize(
    ("write", "advice"),
    [
        (lambda key: f"{key}.jpeg", r"such as train-0000\.jpeg; write each key without its file's suffix"),
        (lambda key: f"a/b/{key}", "such as a/b/train-0000; write each key without its folders"),
        (lambda key: f"b/{key}.png", r"write each key without its folders and its file's suffix"),
        (str.upper, "such as TRAIN-0000; write each key in small letters"),
        (lambda key: f"image {key}", "write its column key with the keys of the corpus"),
    ],
)
def test_keys_of_another_kind_are_shown_beside_the_corpuss(
    store: LocalStore, tmp_path: Path, write: Callable[[str], str], advice: str
) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    spec = spec_with(store, tmp_path, [write(key) for key in corpus.shards[0].keys])
    (work,) = works_of(corpus, spec, Cluster(spec.run.cluster))
    with pytest.raises(
        UsageError, match=rf"file: its table has logits of none of 16 .* such as train-0000, .*{advice}"
    ):
        work.make()


def test_names_of_a_private_corpuss_files_are_not_repeated(store: LocalStore, tmp_path: Path) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8)
    spec = spec_with(store, tmp_path, ["Jane Doe 1970.jpeg"])
    private = spec.model_copy(update={"corpus": spec.corpus.model_copy(update={"private": True})})
    (work,) = works_of(corpus, private, Cluster(spec.run.cluster))
    with pytest.raises(UsageError, match="such as train-0000") as caught:
        work.make()
    assert "Jane" not in str(caught.value)


def test_images_that_a_table_lacks_count_against_the_budget(store: LocalStore, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    spec = spec_with(store, tmp_path, corpus.shards[0].keys.tolist()[:5])
    (work,) = works_of(corpus, spec, Cluster(spec.run.cluster))
    with pytest.raises(BudgetError, match=r"no logits of 27 of 32 training images, more than the 20 .* train-0005"):
        work.make()
