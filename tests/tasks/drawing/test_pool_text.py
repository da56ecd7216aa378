"""How many images of the pool teach, in one sentence."""

from __future__ import annotations

from tasks.drawing.pool_text import pool_text

FACTS = {"unlabelled": 1200, "dropped": 150, "dropped_by_rule": {"no_teacher": 100, "quantile": 50, "cap": 0}}


def test_images_that_teach_are_counted_and_the_others_explained() -> None:
    assert pool_text(FACTS) == (
        "1,050 of the pool's 1,200 unlabelled images teach the student; left out: 100 without a valid answer of every "
        "teacher, 50 by quantile."
    )


def test_a_pool_that_is_not_used_teaches_nothing() -> None:
    assert pool_text(FACTS, used=False).startswith("0 of the pool's 1,200 unlabelled images teach the student: ")


def test_a_corpus_without_a_pool_says_so() -> None:
    none = {"unlabelled": 0, "dropped": 0, "dropped_by_rule": {}}
    assert pool_text(none).startswith("The corpus has no unlabelled images")
