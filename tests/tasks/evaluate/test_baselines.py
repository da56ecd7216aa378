"""Baselines see what they may see and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluate.baselines import border, linear, majority, thumbnail


def test_thumbnail_is_the_area_mean() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 255
    small = thumbnail(image).reshape(16, 16, 3)
    assert (small[:, :8] == 0).all()
    assert (small[:, 8:] == 1).all()


def test_border_does_not_see_the_inside() -> None:
    image = np.random.default_rng(0).integers(0, 255, (192, 192, 3), dtype=np.uint8)
    other = image.copy()
    other[12:-12, 12:-12] = 0
    assert border(image).shape == (180,)
    assert np.array_equal(border(image), border(other))


def test_border_sees_the_frame() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[:6] = 255
    assert border(image).sum() == pytest.approx(16 * 3)


def test_majority_gives_the_shares_of_the_labelled() -> None:
    prob = majority("single", np.array([0, 0, 1, -1]), None, 3, 2)
    assert prob == pytest.approx(np.array([[2 / 3, 1 / 3, 0]] * 2))


def test_majority_of_many_labels_leaves_unknown_out() -> None:
    labels = np.array([[1, -1], [0, 1], [1, 1]])
    assert majority("multilabel", np.array([-1] * 3), labels, 2, 1) == pytest.approx(np.array([[2 / 3, 1.0]]))


def test_linear_finds_a_linear_rule_and_leaves_unseen_classes_at_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5))
    label = np.where(x[:, 0] > 0, 2, 0)
    val, test = linear("single", x[:60], label[:60], None, [x[60:80], x[80:]], 3, lambda p: float(p[:, 2].std()))
    assert val.shape == (20, 3)
    assert (test.argmax(axis=1) == label[80:]).mean() > 0.85
    assert (test[:, 1] == 0).all()


def test_linear_takes_the_strength_that_validation_likes() -> None:
    x = np.random.default_rng(0).normal(size=(60, 5))
    label = (x[:, 0] > 0).astype(int)
    bold = linear("single", x, label, None, [x, x], 2, lambda p: float(p.max()))[1]
    shy = linear("single", x, label, None, [x, x], 2, lambda p: -float(p.max()))[1]
    assert bold.max() > shy.max()


def test_linear_on_one_class_says_that_class() -> None:
    x = np.zeros((4, 3))
    prob = linear("single", x, np.ones(4, int), None, [x[:0], x], 2, lambda p: 1.0)[1]
    assert prob.tolist() == [[0, 1]] * 4
