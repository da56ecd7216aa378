"""Loss terms against values from independent float64 formulas, and what masks do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.losses import Objective, Targets, binary, cross_entropy, kl, soft_binary
from models.terms import Term, default_terms

Z = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.1, -2.0]])
T = torch.tensor([[[0.5, 1.5, -1.0], [2.0, 0.0, 0.1]], [[-0.5, 0.5, 1.0], [0.0, 3.0, 0.1]]])


def targets(**change: object) -> Targets:
    values: dict[str, object] = {
        "label_B": torch.tensor([2, -1]),
        "labels_BC": None,
        "teacher_KBC": T,
        "valid_B": torch.tensor([True, True]),
        "weight_B": torch.ones(2),
    }
    return Targets(**{**values, **change})  # type: ignore[arg-type]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64))
    return e / e.sum(-1, keepdims=True)


def test_cross_entropy_sees_labelled_samples_alone() -> None:
    loss, mask = cross_entropy(Z, targets())
    assert loss[0].item() == pytest.approx(-np.log(softmax(Z.numpy())[0, 2]), rel=1e-6)
    assert mask.tolist() == [True, False]


def test_cross_entropy_of_a_mixture_is_shared_between_its_labels() -> None:
    mixed = targets(
        label_B=torch.tensor([2, 0]), partner_label_B=torch.tensor([0, -1]), share_B=torch.tensor([0.25, 1.0])
    )
    loss, mask = cross_entropy(Z, mixed)
    log_p = np.log(softmax(Z.numpy()))
    assert loss[0].item() == pytest.approx(-0.25 * log_p[0, 2] - 0.75 * log_p[0, 0], rel=1e-6)
    assert loss[1].item() == pytest.approx(-log_p[1, 0], rel=1e-6)
    assert mask.tolist() == [True, True]


def test_a_mixture_is_labelled_only_when_both_its_pictures_are() -> None:
    mixed = targets(
        label_B=torch.tensor([2, -1]), partner_label_B=torch.tensor([-1, 1]), share_B=torch.tensor([0.5, 0.5])
    )
    assert cross_entropy(Z, mixed)[1].tolist() == [False, False]


def test_binary_loss_of_a_mixture_is_shared_between_its_labels() -> None:
    own, other = torch.tensor([[1.0, -1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    share = torch.tensor([0.25, 0.5])
    loss, mask = binary(Z, targets(labels_BC=own, partner_labels_BC=other, partner_label_B=T[0, :, 0], share_B=share))
    first, second = (binary(Z, targets(labels_BC=labels))[0][0].item() for labels in (own, other))
    assert loss[0].item() == pytest.approx(0.25 * first + 0.75 * second, rel=1e-6)
    assert mask.tolist() == [True, False]


def test_soft_labels_know_nothing_of_mixtures() -> None:
    mixed = targets(partner_label_B=torch.tensor([0, 1]), share_B=torch.tensor([0.5, 0.5]))
    assert torch.equal(kl(Z, mixed, temperature=2.0)[0], kl(Z, targets(), temperature=2.0)[0])
    assert torch.equal(soft_binary(Z, mixed)[0], soft_binary(Z, targets())[0])


def test_kl_is_hinton_s_mean_over_teachers() -> None:
    loss, _ = kl(Z, targets(), temperature=3.0)
    q, p = softmax(Z.numpy() / 3), softmax(T.numpy() / 3)
    expected = 9 * (p * (np.log(p) - np.log(q))).sum(-1).mean(0)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-5)


def test_kl_of_equal_logits_is_zero() -> None:
    loss, _ = kl(Z, targets(teacher_KBC=Z[None]), temperature=2.0)
    np.testing.assert_allclose(loss.numpy(), 0, atol=1e-6)


def test_soft_binary_is_the_sum_of_binary_divergences() -> None:
    loss, _ = soft_binary(Z, targets(teacher_KBC=T[:1]))
    p, q = 1 / (1 + np.exp(-T[0].double().numpy())), 1 / (1 + np.exp(-Z.double().numpy()))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(-1)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4)


def test_binary_skips_unknown_classes() -> None:
    y = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])
    loss, mask = binary(Z, targets(labels_BC=y))
    q = 1 / (1 + np.exp(-Z.double().numpy()))
    assert loss[0].item() == pytest.approx(-(np.log(q[0, 0]) + np.log(1 - q[0, 2])) / 2, rel=1e-5)
    assert mask.tolist() == [True, False]


def test_binary_needs_multilabel_targets() -> None:
    with pytest.raises(ValueError, match="multilabel"):
        binary(Z, targets())


def test_a_batch_without_labels_has_a_loss_of_zero_on_labels() -> None:
    total, _ = Objective([Term("cross_entropy")])(Z, targets(label_B=torch.tensor([-1, -1])))
    assert total.item() == 0.0


def test_a_row_that_is_not_valid_cannot_spoil_the_batch() -> None:
    spoiled = T.clone()
    spoiled[:, 1] = float("nan")
    z = Z.clone().requires_grad_()
    total, _ = Objective([Term("kl")])(z, targets(teacher_KBC=spoiled, valid_B=torch.tensor([True, False])))
    total.backward()
    assert torch.isfinite(total)


def test_weights_choose_samples() -> None:
    objective = Objective([Term("kl", temperature=1.0)])
    both = objective(Z, targets(weight_B=torch.tensor([0.0, 1.0])))[0]
    alone = kl(Z, targets(), temperature=1.0)[0][1]
    assert both.item() == pytest.approx(alone.item())


def test_a_labelled_image_counts_the_same_in_any_batch() -> None:
    objective = Objective([Term("cross_entropy")])
    mixed = objective(Z, targets())[0]
    alone = objective(Z[:1], targets(label_B=torch.tensor([2]), valid_B=torch.ones(1) > 0, weight_B=torch.ones(1)))[0]
    assert mixed.item() == pytest.approx(alone.item() / 2)


def test_gradients_are_right() -> None:
    z = Z.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kl(x, targets(teacher_KBC=T.double()), temperature=2.0)[0].sum(), (z,))


def test_defaults_follow_the_task() -> None:
    assert [t.loss for t in default_terms("single", taught=True)] == ["cross_entropy", "kl"]
    assert [t.loss for t in default_terms("multilabel", taught=False)] == ["binary"]


def test_soft_labels_that_are_not_there_are_missed() -> None:
    with pytest.raises(ValueError, match="needs soft labels"):
        Objective([Term("kl")])(Z, targets(teacher_KBC=None))
