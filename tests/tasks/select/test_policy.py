"""The rules, one by one and in their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.select.ranking import first, ranked
from tests.tasks.select.pools import pool_of, sure, weighed

NAN = float("nan")


def test_everything_valid_is_kept_without_rules() -> None:
    done = weighed(pool_of([[0.4, 0.3, 0.3], [NAN, NAN, NAN], [0.9, 0.1, 0.0]]))
    assert done.weight.tolist() == [1, 0, 1]
    assert done.dropped == {"no_teacher": 1}


def test_less_sure_images_than_asked_are_dropped() -> None:
    done = weighed(pool_of(sure((0, 0.9), (1, 0.5), (2, 0.7))), min_confidence=0.6)
    assert done.weight.tolist() == [1, 0, 1]
    assert done.dropped["min_confidence"] == 1


@pytest.mark.parametrize(("asked", "kept"), [(0.5, [1, 1, 1]), (0.667, [1, 1, 0]), (1.0, [1, 0, 0])])
def test_images_that_too_few_teachers_agree_on_are_dropped(asked: float, kept: list[int]) -> None:
    found = pool_of(
        sure((0, 0.9), (0, 0.9), (0, 0.8)), sure((0, 0.9), (0, 0.9), (1, 0.5)), sure((0, 0.9), (1, 0.6), (1, 0.5))
    )
    found.agreement[2] = 0.5
    assert weighed(found, agreement=asked).weight.tolist() == kept


def test_surest_share_of_each_class_stays_where_one_threshold_starves_the_rare() -> None:
    rows = sure(*((0, p) for p in (0.99, 0.98, 0.97, 0.96)), (1, 0.6), (1, 0.5))
    done = weighed(pool_of(rows), quantile=0.5)
    assert done.weight.tolist() == [1, 1, 0, 0, 1, 0]
    assert done.thresholds == pytest.approx({"c0": 0.98, "c1": 0.6})
    assert weighed(pool_of(rows), min_confidence=0.95).weight.tolist() == [1, 1, 1, 1, 0, 0]


def test_equally_sure_images_share_the_fate_of_their_quantile() -> None:
    assert weighed(pool_of(sure((0, 0.9), (0, 0.8), (0, 0.8), (0, 0.7))), quantile=0.5).weight.tolist() == [1, 1, 1, 0]


def test_quantile_counts_exactly() -> None:
    rows = sure(*((0, 0.9 - n / 100) for n in range(10)))
    assert weighed(pool_of(rows), quantile=0.7).weight.sum() == 7


def test_cap_keeps_the_surest_of_a_class() -> None:
    done = weighed(pool_of(sure((0, 0.7), (0, 0.9), (0, 0.8), (1, 0.5))), cap=2)
    assert done.weight.tolist() == [0, 1, 1, 1]
    assert done.dropped["cap"] == 1


def test_balance_cuts_the_common_and_repeats_the_rare() -> None:
    rows = sure((0, 0.9), (0, 0.8), (0, 0.7), (0, 0.6), (0, 0.5), (1, 0.5), (1, 0.9))
    done = weighed(pool_of(rows), balance=3)
    assert done.weight.tolist() == [1, 1, 1, 0, 0, 1, 2]
    assert done.dropped["balance"] == 2


def test_balance_repeats_no_image_more_often_than_allowed() -> None:
    assert weighed(pool_of(sure((0, 0.9), (1, 0.9), (1, 0.8))), balance=100, repeat=4).weight.tolist() == [4, 4, 4]


def test_filter_goes_before_balance() -> None:
    rows = sure((0, 0.9), (0, 0.4), (1, 0.9), (1, 0.8))
    done = weighed(pool_of(rows), min_confidence=0.5, balance=2)
    assert done.weight.tolist() == [2, 0, 1, 1]


def test_cap_counts_only_what_the_quantile_left() -> None:
    rows = sure((0, 0.9), (0, 0.8), (0, 0.7), (0, 0.6))
    done = weighed(pool_of(rows), quantile=0.5, cap=3)
    assert done.dropped == {"no_teacher": 0, "quantile": 2, "cap": 0}


def test_image_of_many_labels_stays_when_any_of_its_classes_keeps_it() -> None:
    rows = [[0.9, 0.1], [0.8, 0.1], [0.6, 0.7], [0.1, 0.1], [0.4, 0.4]]
    done = weighed(pool_of(rows, many=True), many=True, cap=1)
    # The surest of c0, of c1, and of those with neither.
    assert done.weight.tolist() == [1, 0, 1, 1, 0]


def test_image_of_many_labels_takes_the_largest_of_its_repeats() -> None:
    rows = [[0.9, 0.1], [0.8, 0.1], [0.7, 0.9], [0.1, 0.1]]
    assert weighed(pool_of(rows, many=True), many=True, balance=3).weight.tolist() == [1, 1, 3, 3]


def test_quantiles_of_many_labels_are_by_class() -> None:
    rows = [[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.6, 0.6], [0.1, 0.2]]
    done = weighed(pool_of(rows, many=True), many=True, quantile=0.5)
    assert done.weight.tolist() == [1, 1, 0, 1, 1]
    assert done.thresholds == pytest.approx({"c0": 0.8, "c1": 0.6, "none": 0.85})


def test_ties_go_by_key_and_not_by_place() -> None:
    scores, keys = np.ones(50), np.array([f"k{n}" for n in range(50)], dtype=object)
    chosen = set(keys[first(scores, 10, keys)])
    turned = keys[::-1]
    assert set(turned[first(scores, 10, turned)]) == chosen
    assert chosen != set(keys[:10])


def test_ranking_is_highest_first() -> None:
    keys = np.array(list("abcd"), dtype=object)
    assert ranked(np.array([0.1, 0.9, 0.5, 0.7]), 3, keys) == [1, 3, 2]


chances = arrays(np.float64, (12, 3), elements=st.sampled_from([0.05, 0.2, 0.5, 1.0])).map(
    lambda raw: (raw / raw.sum(axis=1, keepdims=True)).tolist()
)
rules = st.fixed_dictionaries(
    {},
    optional={
        "min_confidence": st.floats(0, 1),
        "agreement": st.floats(0, 1),
        "quantile": st.floats(0.01, 1),
        "cap": st.integers(1, 6),
        "balance": st.integers(1, 20),
        "repeat": st.integers(1, 5),
    },
)


@given(chances, chances, rules, st.permutations(range(12)), st.booleans())
def test_weights_are_whole_never_negative_and_independent_of_order(
    one: list[list[float]], two: list[list[float]], asked: dict[str, float], order: list[int], many: bool
) -> None:
    keys = [f"k{n}" for n in range(12)]
    weight = weighed(pool_of(one, two, many=many, keys=keys), many=many, **asked).weight
    assert (weight >= 0).all()
    assert (weight == np.round(weight)).all()
    assert weight.max() <= asked.get("repeat", 10)
    turned = [[rows[n] for n in order] for rows in (one, two)]
    again = weighed(pool_of(*turned, many=many, keys=[keys[n] for n in order]), many=many, **asked).weight
    assert again.tolist() == weight[order].tolist()
