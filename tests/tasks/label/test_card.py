"""The label card: its figures, what stays in the store, and when it is made again."""

from __future__ import annotations

import re
import subprocess
import sys
from math import log

import cv2
import numpy as np
import pyarrow as pa
import pytest

from infra.errors import UsageError
from infra.storage.manifest import Manifest, Quarantined
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data.catalog import CATALOG, from_parquet, to_parquet
from tasks.data.corpus import Corpus, Shard
from tasks.drawing.contact_sheet import CAPTION, GAP, TILE
from tasks.label.card import LabelCard, LabelRunFigures, label_card
from tasks.maintenance.reachability import reachable
from tasks.maintenance.store_contents import read_contents
from tasks.maintenance.verify import verify
from tests.tiny import tiny_corpus, tiny_labels

RAN = LabelRunFigures(seconds=20.0, made=3, found=9, images=500)
FOUND = LabelRunFigures(seconds=0.1, made=0, found=12, images=0)


def known(shard: Shard, view: int) -> np.ndarray:
    """The label by odds of 4, the first row's wrong; the first class in the pool."""
    if shard.labels is not None:
        return np.where(shard.labels == 1, log(4.0), -log(4.0)).astype(np.float32)
    said = np.maximum(shard.label, 0)
    said[0] = (said[0] + 1) % 3
    return (np.eye(3)[said] * log(4.0)).astype(np.float32)


def first(shard: Shard, view: int) -> np.ndarray:
    return np.tile(np.array([log(4.0), 0, 0], np.float32), (len(shard), 1))


def card_of(
    store: LocalStore, corpus: Corpus, *manifests: Manifest, measured: LabelRunFigures = RAN
) -> tuple[LabelCard, str]:
    card = label_card(corpus, manifests, measured, store)
    return card, store.get(card.page).decode()


@pytest.mark.parametrize("task", ["single", "ordinal", "multilabel"])
@pytest.mark.parametrize("teachers", [1, 2])
def test_what_leaves_the_store_shows_nobody(store: LocalStore, task: str, teachers: int) -> None:
    corpus = tiny_corpus(store, task=task)
    labels = [tiny_labels(corpus, f"t{n}", known if n else first, views=2) for n in range(teachers)]
    card, page = card_of(store, corpus, *labels)
    assert "![" not in card.markdown
    for shard in corpus.shards:
        for secret in (*shard.keys, *shard.patient):
            assert secret not in card.markdown
    assert any(key in page for key in corpus.of_split("train")[0].keys)
    assert str(store.url) not in page + card.markdown


def test_the_page_shows_pictures_that_lie_beside_it(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    card, page = card_of(store, corpus, tiny_labels(corpus, "big", known))
    folder, _, name = card.page.rpartition("/")
    assert re.fullmatch(r"reports/tiny/label-[0-9a-f]{16}", folder)
    assert re.fullmatch(r"page-[0-9a-f]{8}\.md", name)
    shown = re.findall(r"!\[(\w+)\]\((\S+)\)", page)
    assert [kind for kind, _ in shown] == ["classes", "confidence", "uncertain"]
    assert {card.page, *(f"{folder}/{file}" for _, file in shown)} == set(card.objects)
    for _, file in shown:
        assert cv2.imdecode(np.frombuffer(store.get(f"{folder}/{file}"), np.uint8), cv2.IMREAD_COLOR) is not None
    assert all(f"`{name}`" in card.markdown for name in card.objects)


def test_the_contact_sheet_has_the_most_uncertain_images(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=24, unlabelled=8)
    card, _ = card_of(store, corpus, tiny_labels(corpus, "big", known))
    data = store.get(card.manifest.output(kind="uncertain").name)
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape == (4 * (TILE + 3 * CAPTION + GAP), 6 * (TILE + GAP) + GAP, 3)


def test_objects_of_a_card_are_known_to_the_store(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    card_of(store, corpus, tiny_labels(corpus, "big", known))
    verdict = verify(store)
    assert (len(verdict.defects), verdict.strays) == (0, 0)


def test_a_card_is_kept_as_long_as_its_labels(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "big", known)
    card, _ = card_of(store, corpus, labels)
    contents = read_contents(store)
    assert card.manifest.name in reachable(contents, [labels.key])
    assert card.manifest.name not in reachable(contents, [corpus.manifest.key])


def test_a_run_that_made_nothing_finds_the_card(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "big", known)
    card, _ = card_of(store, corpus, labels)
    before = store.sizes("")
    again, _ = card_of(store, corpus, labels, measured=FOUND)
    assert again == card
    assert store.sizes("") == before
    store.delete(card.objects[-1])
    assert card_of(store, corpus, labels, measured=FOUND)[0].objects[1:] == card.objects[1:]
    assert store.exists(card.objects[-1])


def test_a_corrected_label_makes_another_card(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=8)
    labels = tiny_labels(corpus, "big", known)
    card, page = card_of(store, corpus, labels)
    old = corpus.manifest.output(kind="catalog")
    catalog = from_parquet(store.get(old.name))
    column = [1 if key == "val-0003" else label for key, label in zip(*_columns(catalog), strict=True)]
    catalog = catalog.set_column(catalog.schema.get_field_index("label"), "label", pa.array(column, pa.int32()))
    new = StageCache(store).put_object("catalogs/tiny/{sha}.parquet", to_parquet(catalog, CATALOG), meta=old.meta)
    outputs = [new if output == old else output for output in corpus.manifest.outputs]
    other = Corpus(store, corpus.manifest.model_copy(update={"outputs": outputs}))
    assert other.of_split("val")[0].label[3] != corpus.of_split("val")[0].label[3]
    corrected, its_page = card_of(store, other, labels, measured=FOUND)
    assert corrected.page.rpartition("/")[0] != card.page.rpartition("/")[0]
    assert "| big | 8 | 0.875 |" in page
    assert "| big | 8 | 0.750 |" in its_page


def _columns(catalog: pa.Table) -> tuple[list[str], list[int]]:
    return catalog["key"].to_pylist(), catalog["label"].to_pylist()


def test_work_and_engines_are_shown(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    engine = {"engine": "openvino-bfloat16", "batch": 32, "device": "cpu"}
    moved = {"divergence": 0.0041, "low": 0.003, "high": 0.0052}
    measured = {**moved, "top1": 0.996, "max_error": 0.03, "spread": 2.0, "samples": 250, "kind": "a processor"}
    labels = tiny_labels(corpus, "big", known, views=2).model_copy(
        update={
            "facts": {"engines": [{**engine, **measured}, {"engine": "eager-float32", "batch": 8, "device": "cpu"}]}
        }
    )
    text = card_of(store, corpus, labels)[0].markdown
    assert "- 48 images (32 train, 8 val, 8 test) in 4 shards" in text
    assert "2 random views of each training image, 1 teacher: 112 predictions" in text
    assert "- cache: 9 of 12 units (shard, teacher, view) found, 3 made" in text
    assert "- 500 predictions in 20.0 s: 25.0 images/s" in text
    agreement = "0.0041 [0.003, 0.0052] | 99.60% of 250 | 0.03 (1.5% of the spread)"
    assert f"| big | openvino | bfloat16 | 32 | {agreement} | a processor |" in text
    assert "| big | eager | float32 | 8 | - | - | - | cpu |" in text


def test_what_is_kept_out_is_counted_outside_and_named_inside(store: LocalStore) -> None:
    def broken(shard: Shard, view: int) -> np.ndarray:
        logits = known(shard, view)
        logits[2] = np.inf
        return logits

    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "big", broken).model_copy(
        update={"quarantine": [Quarantined(source="train-0002", reason="killed by signal 9")]}
    )
    card, page = card_of(store, corpus, labels)
    assert "| big | 48 | 4 | 1 |" in card.markdown
    assert "killed" not in card.markdown
    assert "| big | train-0002 | killed by signal 9 |" in page


def test_two_teachers_are_compared(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=8, unlabelled=8, val=4, test=4)

    def even(shard: Shard, view: int) -> np.ndarray:
        return (np.eye(3)[np.arange(len(shard)) % 2] * log(4.0)).astype(np.float32)

    text = card_of(store, corpus, tiny_labels(corpus, "a", first), tiny_labels(corpus, "b", even))[0].markdown
    assert "Plain views of up to 24 images" in text
    assert "| a | 1 | 0.500 |\n| b | 0.500 | 1 |" in text
    assert "Cohen's kappa:\n\n|  | a | b |\n| --- | ---: | ---: |\n| a | 1 | 0.000 |" in text
    assert "| mean of the teachers | 4 |" in text
    assert "Quadratically" not in text


def test_one_teacher_is_compared_with_itself(store: LocalStore) -> None:
    def turning(shard: Shard, view: int) -> np.ndarray:
        return np.roll(known(shard, 0), 1, axis=1) if view == 2 else known(shard, 0)

    corpus = tiny_corpus(store, train=8, unlabelled=8)
    text = card_of(store, corpus, tiny_labels(corpus, "a", turning, views=2))[0].markdown
    assert "| 1 | 16 | 1.000 |\n| 2 | 16 | 0.000 |\n| all | 32 | 0.500 |" in text
    assert "no random views" in card_of(store, corpus, tiny_labels(corpus, "b", known))[0].markdown


def test_accuracy_stands_beside_the_commonest_class(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=8, task="ordinal")
    truth = corpus.of_split("val")[0].label
    text = card_of(store, corpus, tiny_labels(corpus, "a", known))[0].markdown
    assert "| plain views | images | accuracy | balanced accuracy | quadratic kappa |" in text
    assert "| a | 8 | 0.875 |" in text
    assert f"| commonest class | 8 | {np.bincount(truth).max() / 8:.3f} | - | - |" in text


def test_classes_of_the_pool_stand_beside_the_prior(store: LocalStore) -> None:
    corpus = tiny_corpus(store, train=9, unlabelled=6)
    text = card_of(store, corpus, tiny_labels(corpus, "a", first))[0].markdown
    labels = corpus.of_split("train")[0].label
    share = (labels == 0).sum() / 9
    assert "6 of 6 unlabelled training images have valid predictions." in text
    assert f"| class-0 | {(labels == 0).sum()} | {share:.1%} | 6 | 100.0% | 66.7% |" in text
    assert "| class-1 |" in text
    assert "| 0 | 0.0% | 16.7% |" in text


def test_a_corpus_without_pool_or_validation_labels_says_so(store: LocalStore) -> None:
    corpus = tiny_corpus(store, unlabelled=0, val=0)
    text = card_of(store, corpus, tiny_labels(corpus, "a", known))[0].markdown
    assert "No validation image is labelled" in text
    assert "No training image is unlabelled." in text
    assert re.search(r"\| class-2 \| \d+ \| [0-9.]+% \| - \| - \| - \|", text)


def test_a_multilabel_corpus_is_rated_by_decisions(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="multilabel", val=8)
    text = card_of(store, corpus, tiny_labels(corpus, "a", known, views=1))[0].markdown
    assert "| plain views | images | right decisions | balanced accuracy |" in text
    assert "| a | 8 | 1.000 | 1.000 |" in text
    assert "| 1 | 96 | 1.000 |" in text
    assert "| all | 72 | 24 | 24 | 0 |" in text


def test_phantoms_are_called_phantoms(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    drawn = corpus.manifest.model_copy(update={"section": {"corpus": {"adapter": "phantom-fundus"}}})
    labels = tiny_labels(corpus, "a", known)
    assert "These images are phantoms" in card_of(store, Corpus(store, drawn), labels)[0].markdown


def test_a_card_is_of_a_teacher(store: LocalStore) -> None:
    with pytest.raises(UsageError, match="at least one teacher"):
        label_card(tiny_corpus(store), [], RAN, store)


def test_the_driver_needs_no_torch_for_it() -> None:
    code = "import sys, tasks.label.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
