"""Losses on labels against formulas in numpy, on mixtures, and at the edges."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from models.losses.labels import label_loss
from models.losses.targets import Targets
from tests.models.losses.batches import Z, gradients_agree, softmax, targets, value_and_gradient

PRIOR = (0.7, 0.2, 0.1)
OF_CLASSES = ("cross_entropy", "logit_adjusted", "cumulative", "squared_grade")
LABELS = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]])


def loss_of(name: str, z: Tensor, given: Targets, smoothing: float = 0.0) -> Tensor:
    options = {"tau": 1.0} if name == "logit_adjusted" else {}
    return label_loss(name, prior=PRIOR[: z.shape[1]], smoothing=smoothing, **options)(z, given)


def both_labelled(*labels: int) -> Targets:
    return targets(label_B=torch.tensor(labels))


def cross_entropy_of(worse: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -(y * np.log(worse) + (1 - y) * np.log(1 - worse)).mean(-1)


def test_cross_entropy_is_minus_the_log_of_the_label_s_probability() -> None:
    found = loss_of("cross_entropy", Z, both_labelled(2, 0))
    np.testing.assert_allclose(found, -np.log(softmax(Z)[[0, 1], [2, 0]]))


def test_smoothing_shares_a_part_of_the_label_evenly() -> None:
    found = loss_of("cross_entropy", Z, both_labelled(2, 0), smoothing=0.3)
    y = 0.7 * np.eye(3)[[2, 0]] + 0.1
    np.testing.assert_allclose(found, -(y * np.log(softmax(Z))).sum(-1))


def test_logit_adjustment_raises_the_logits_of_frequent_classes_while_training() -> None:
    found = label_loss("logit_adjusted", prior=PRIOR, smoothing=0.0, tau=1.5)(Z, both_labelled(2, 0))
    adjusted = softmax(Z.numpy() + 1.5 * np.log(PRIOR))
    np.testing.assert_allclose(found, -np.log(adjusted[[0, 1], [2, 0]]))


def test_a_class_without_labelled_images_counts_as_the_rarest() -> None:
    given = both_labelled(2, 0)
    found, rarest = (
        label_loss("logit_adjusted", prior=prior, smoothing=0.0, tau=1.0)(Z, given)
        for prior in ((0.8, 0.0, 0.2), (0.8, 0.2, 0.2))
    )
    np.testing.assert_array_equal(found, rarest)


@pytest.mark.parametrize("prior", [(), (0.0, 0.0, 0.0)])
def test_logit_adjustment_without_a_prior_is_refused(prior: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="needs the class shares"):
        label_loss("logit_adjusted", prior=prior, smoothing=0.0, tau=1.0)


def test_a_prior_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="the prior has 2 classes, the logits 3"):
        label_loss("logit_adjusted", prior=(0.5, 0.5), smoothing=0.0, tau=1.0)(Z, both_labelled(0, 1))


def test_binary_is_the_mean_over_the_known_classes() -> None:
    found = loss_of("binary", Z, targets(labels_BC=LABELS))
    q = 1 / (1 + np.exp(-Z.numpy()))
    assert found[0].item() == pytest.approx(-(np.log(q[0, 0]) + np.log(1 - q[0, 2])) / 2)


def test_binary_smoothing_moves_both_answers_towards_a_half() -> None:
    found = loss_of("binary", Z, targets(labels_BC=LABELS), smoothing=0.2)
    q = 1 / (1 + np.exp(-Z.numpy()))
    assert found[1].item() == pytest.approx(cross_entropy_of(q[1], np.array([0.1, 0.9, 0.9])))


def test_cumulative_is_the_mean_over_the_thresholds() -> None:
    found = loss_of("cumulative", Z, both_labelled(1, 0))
    p = softmax(Z)
    worse = np.stack([p[:, 1] + p[:, 2], p[:, 2]], axis=1)
    np.testing.assert_allclose(found, cross_entropy_of(worse, np.array([[1.0, 0.0], [0.0, 0.0]])))


def test_cumulative_smoothing_is_that_of_the_label_s_distribution() -> None:
    found = loss_of("cumulative", Z, both_labelled(1, 0), smoothing=0.3)
    p, y = softmax(Z), 0.7 * np.eye(3)[[1, 0]] + 0.1
    worse, wanted = (np.stack([x[:, 1] + x[:, 2], x[:, 2]], axis=1) for x in (p, y))
    np.testing.assert_allclose(found, cross_entropy_of(worse, wanted))


def test_squared_grade_is_a_share_of_the_whole_scale() -> None:
    found = loss_of("squared_grade", Z, both_labelled(2, 0))
    grade = softmax(Z) @ [0, 1, 2]
    np.testing.assert_allclose(found, ((grade - [2, 0]) / 2) ** 2)
    sure = torch.tensor([[1e4, 0.0, 0.0], [0.0, 0.0, 1e4]], dtype=torch.float64)
    np.testing.assert_allclose(loss_of("squared_grade", sure, both_labelled(2, 0)), [1, 1])


def test_squared_grade_smoothing_moves_the_grade_to_the_middle() -> None:
    found = loss_of("squared_grade", Z, both_labelled(2, 0), smoothing=0.5)
    np.testing.assert_allclose(found, ((softmax(Z) @ [0, 1, 2] - [1.5, 0.5]) / 2) ** 2)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_mixture_pays_for_both_labels_by_their_shares(name: str) -> None:
    mixed = targets(
        label_B=torch.tensor([2, 0]),
        partner_label_B=torch.tensor([0, -1]),
        share_B=torch.tensor([0.25, 1.0], dtype=torch.float64),
    )
    found = loss_of(name, Z, mixed)
    own, other = loss_of(name, Z, both_labelled(2, 0)), loss_of(name, Z, both_labelled(0, 0))
    assert found[0].item() == pytest.approx((0.25 * own[0] + 0.75 * other[0]).item())
    assert found[1].item() == pytest.approx(own[1].item())


def test_a_mixture_pays_for_both_rows_of_labels_by_their_shares() -> None:
    share = torch.tensor([0.25, 0.5], dtype=torch.float64)
    given = targets(labels_BC=LABELS, partner_labels_BC=LABELS.flip(0), share_B=share)
    found = loss_of("binary", Z, given)
    own, other = (loss_of("binary", Z, targets(labels_BC=labels)) for labels in (LABELS, LABELS.flip(0)))
    np.testing.assert_allclose(found, share * own + (1 - share) * other)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", [*OF_CLASSES, "binary"])
def test_gradients_are_the_numerical_ones(name: str, smoothing: float) -> None:
    given = targets(labels_BC=LABELS) if name == "binary" else both_labelled(2, 0)
    assert gradients_agree(partial(loss_of, name, given=given, smoothing=smoothing))


@pytest.mark.parametrize("name", [*OF_CLASSES, "binary"])
def test_extreme_logits_stay_finite(name: str) -> None:
    z = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]])
    given = targets(labels_BC=LABELS) if name == "binary" else both_labelled(2, 0)
    value, gradient = value_and_gradient(partial(loss_of, name, given=given), z)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_single_class_costs_nothing(name: str) -> None:
    given = targets(rows=1, label_B=torch.tensor([0]))
    value, gradient = value_and_gradient(partial(loss_of, name, given=given), torch.tensor([[3.0]]))
    assert (value.item(), gradient.item()) == (0.0, 0.0)


def test_binary_needs_a_multilabel_corpus() -> None:
    with pytest.raises(ValueError, match="needs a multilabel corpus"):
        loss_of("binary", Z, both_labelled(2, 0))


@pytest.mark.parametrize("name", OF_CLASSES)
def test_losses_of_one_class_an_image_refuse_a_multilabel_corpus(name: str) -> None:
    with pytest.raises(ValueError, match="use binary"):
        loss_of(name, Z, targets(labels_BC=LABELS))


def test_an_unknown_loss_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no loss 'hinge' on labels; known: cross_entropy, .*squared_grade"):
        label_loss("hinge", prior=(), smoothing=0.0)
