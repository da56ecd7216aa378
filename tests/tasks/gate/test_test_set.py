"""The digest of a test set, how often it was looked at, and what changed since the champion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from infra.errors import SpecError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data.catalog import CATALOG, to_parquet
from tasks.data.corpus import Corpus
from tasks.data.tombstones import write_tombstone
from tasks.evaluate.arms import Truth
from tasks.evaluate.write import PREDICTIONS
from tasks.gate.asked import refuse_silent_changes
from tasks.gate.opponent import Champion
from tasks.gate.test_set import Changes, changes_since, digest_of_test, looks_before
from tests.tiny import tiny_corpus


@pytest.fixture
def corpus(store: LocalStore) -> Corpus:
    return tiny_corpus(store, test=6)


def truth(corpus: Corpus) -> Truth:
    return Truth.of([(shard, shard.labelled) for shard in corpus.of_split("test")])


def evaluated(corpus: Corpus, found: Truth) -> dict[str, str]:
    """Tags of a version whose evaluation judged these images, which the store has."""
    cache, n = StageCache(corpus.store), len(found)
    rows = {"arm": ["taught"] * n, "seed": [0] * n, "split": ["test"] * n, "key": found.keys.tolist()}
    rows |= {"label": found.label.tolist(), "labels": [None] * n, "prob": [[0.5]] * n}
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.Table.from_pydict(rows, schema=PREDICTIONS), sink)
    output = cache.put_object(
        "predictions/p-{sha8}.parquet", sink.getvalue().to_pybytes(), meta={"kind": "predictions"}
    )
    facts = {"classes": corpus.classes}
    manifest = Manifest(stage="evaluate", version=9, key="e", inputs=[], section={}, outputs=[output], facts=facts)
    return {"stillroom.manifest.evaluate": cache.commit(manifest).digest}


def changed(corpus: Corpus, before: Truth, now: Truth) -> Changes:
    found = changes_since(corpus, now, "3", evaluated(corpus, before), [corpus.title])
    assert found is not None
    return found


def test_the_digest_is_of_keys_labels_and_bytes(corpus: Corpus, store: LocalStore) -> None:
    all_of_it = truth(corpus)
    first = digest_of_test(corpus, all_of_it)
    backwards = all_of_it.where(np.arange(len(all_of_it))[::-1])
    assert digest_of_test(corpus, backwards) == first
    assert digest_of_test(corpus, all_of_it.where(np.arange(6) > 0)) != first
    assert digest_of_test(corpus, replace(all_of_it, label=(all_of_it.label + 1) % 3)) != first
    table = corpus.catalog.set_column(
        corpus.catalog.schema.get_field_index("source_sha256"), "source_sha256", pa.array(["0"] * len(corpus.catalog))
    )
    old = corpus.manifest.output(kind="catalog")
    new = StageCache(store).put_object("catalogs/x/{sha}.parquet", to_parquet(table, CATALOG), meta=old.meta)
    outputs = [new if output == old else output for output in corpus.manifest.outputs]
    other = Corpus(store, corpus.manifest.model_copy(update={"outputs": outputs}))
    assert digest_of_test(other, all_of_it) != first


def test_looks_count_other_students_on_the_same_images(store: LocalStore) -> None:
    for key, (student, digest) in enumerate([("a", "x"), ("a", "x"), ("b", "x"), ("c", "y")]):
        facts = {"student": student, "test": {"digest": digest}}
        manifest = Manifest(stage="gate", version=2, key=str(key), inputs=[], section={}, outputs=[], facts=facts)
        StageCache(store).commit(manifest)
    old = Manifest(stage="gate", version=1, key="old", inputs=[], section={}, outputs=[], facts={"arm": "taught"})
    StageCache(store).commit(old)
    assert [looks_before(store, "gate", "x", student) for student in "abc"] == [1, 1, 2]


def test_growth_is_told(corpus: Corpus) -> None:
    now = truth(corpus)
    found = changed(corpus, now.where(np.arange(6) > 1), now)
    assert found.to_json() == {"version": "3", "added": 2, "removed": 0, "relabelled": 0, "erased": 0}


def test_removed_and_relabelled_images_are_told(corpus: Corpus) -> None:
    before = truth(corpus)
    label = before.label.copy()
    label[5] = (label[5] + 1) % 3
    found = changed(corpus, before, replace(before, label=label).where(np.arange(6) > 0))
    assert (found.removed, found.relabelled) == ([before.keys[0]], [before.keys[5]])


def test_an_image_that_was_erased_is_no_removal(corpus: Corpus) -> None:
    before = truth(corpus)
    write_tombstone(corpus.store, corpus.title, {"key": {str(before.keys[0])}})
    found = changed(corpus, before, before.where(np.arange(6) > 1))
    assert (found.removed, found.erased) == ([before.keys[1]], [before.keys[0]])


def test_without_the_evaluation_nothing_is_known(corpus: Corpus) -> None:
    assert changes_since(corpus, truth(corpus), "3", {"stillroom.manifest.evaluate": "0" * 64}, []) is None


class Held:
    """A version as MLflow has it."""

    version = 3

    def __init__(self, **tags: str) -> None:
        self.tags = tags


def test_test_images_that_are_gone_are_an_error_until_the_revision_is_raised() -> None:
    champion = Champion("eyes", Held(), same=False)
    changes = Changes("3", ["n"], ["a", "b", "c", "d"], [], [])
    asked = {"rules": {}, "digest": "", "revision": 1}
    with pytest.raises(SpecError, match=r"4 test images were removed \(a, b, c, \.\.\.\).*set gate\.revision: 2"):
        refuse_silent_changes(asked, champion, changes)
    refuse_silent_changes({**asked, "revision": 2}, champion, changes)
    refuse_silent_changes(asked, champion, Changes("3", ["n"], [], [], ["a"]))


def test_a_revision_that_was_used_up_does_not_excuse_the_next_change() -> None:
    tags = {"stillroom.gate_revision": "2", "stillroom.gate_rules": '{"digest": "", "rules": {"gate.patients": 30}}'}
    champion = Champion("eyes", Held(**tags), same=False)
    with pytest.raises(SpecError, match=r"gate\.patients: 30 -> 20.*set gate\.revision: 3 \(the champion has 2\)"):
        refuse_silent_changes({"rules": {"gate.patients": 20}, "revision": 2}, champion, None)


def test_a_rule_that_is_new_and_asks_for_nothing_is_no_change() -> None:
    champion = Champion("eyes", Held(**{"stillroom.gate_rules": '{"rules": {"gate.patients": 30}}'}), same=False)
    refuse_silent_changes({"rules": {"gate.patients": 30, "gate.latency": None}, "revision": 1}, champion, None)
    with pytest.raises(SpecError, match=r"gate\.latency: not asked for -> 5"):
        refuse_silent_changes({"rules": {"gate.patients": 30, "gate.latency": 5}, "revision": 1}, champion, None)
