"""Expected cost of labelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.storage.store import LocalStore
from tasks.data.soft_labels import to_soft_labels, write_soft_labels
from tasks.label.costs import LabelRate, expected_cost_text, label_cost, shard_rows, soft_label_bytes
from tests.tiny import tiny_corpus, tiny_labels

sides = st.integers(1, 12)


@given(
    st.integers(1, 1100),
    st.integers(1, 40),
    st.none() | st.tuples(sides) | st.tuples(sides, sides, sides),
    st.booleans(),
)
def test_bytes_are_those_of_the_file(rows: int, classes: int, features: tuple[int, ...] | None, mixed: bool) -> None:
    soft = to_soft_labels(
        np.zeros((rows, classes), np.float32),
        partner=np.full(rows, -1, np.int32) if mixed else None,
        features=np.zeros((rows, *features), np.float32) if features else None,
    )
    assert soft_label_bytes(rows, classes, features or (), mixed=mixed) == len(write_soft_labels(soft))


def test_bytes_and_files_are_those_of_a_labelling(store: LocalStore) -> None:
    corpus = tiny_corpus(store)
    labels = tiny_labels(corpus, "big", lambda shard, view: np.zeros((len(shard), 3), np.float32), views=2, val_views=1)
    (cost,) = label_cost(shard_rows(corpus), [LabelRate("big", 3)], [2], mixed=False, val_views=1)
    assert (cost.files, cost.answers) == (len(labels.outputs), sum(o.samples for o in labels.outputs))
    assert cost.bytes == sum(output.bytes for output in labels.outputs)


def test_hours_follow_answers_and_speed() -> None:
    shards = [("train", 500), ("train", 500), ("val", 200), ("test", 300)]
    costs = label_cost(shards, [LabelRate("slow", 5, rate=2.0), LabelRate("unknown", 5)], [0, 1, 4], mixed=False)
    assert [(c.teacher, c.views, c.answers) for c in costs] == [
        ("slow", 0, 1500),
        ("slow", 1, 2500),
        ("slow", 4, 5500),
        ("unknown", 0, 1500),
        ("unknown", 1, 2500),
        ("unknown", 4, 5500),
    ]
    assert [c.hours for c in costs[:3]] == pytest.approx([1500 / 7200, 2500 / 7200, 5500 / 7200])
    assert [c.hours for c in costs[3:]] == [None] * 3


def test_partners_are_stored_with_random_views_only() -> None:
    plain, mixed = (label_cost([("train", 100)], [LabelRate("a", 3)], [0, 2], mixed=mix) for mix in (False, True))
    assert mixed[0].bytes == plain[0].bytes
    one = soft_label_bytes(100, 3, mixed=True) - soft_label_bytes(100, 3)
    assert one >= 400
    assert mixed[1].bytes - plain[1].bytes == 2 * one


@pytest.mark.parametrize(("rate", "time"), [(0.01, "28 hours"), (2.0, "8 minutes"), (100.0, "10 seconds")])
def test_the_expected_cost_names_the_least_time(rate: float, time: str) -> None:
    text = expected_cost_text(LabelRate("big", 5, rate=rate), [(250, False)] * 4)
    size = 4 * soft_label_bytes(250, 5) / 1e6
    assert text == f"teacher big is to make 1,000 predictions in 4 files, {size:.1f} MB, {time} or more"
