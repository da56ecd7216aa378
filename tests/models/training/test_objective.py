"""The terms of an objective: their rows, weights and schedules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.losses.labels import label_loss
from models.losses.logits import logit_loss, standardised
from models.losses.sharing import shares
from models.losses.targets import Targets
from models.losses.terms import Term, default_terms
from models.training.objective import Objective, Setting
from models.training.rescale import STEPS
from tests.models.losses import batches

Z, T = batches.Z.float(), batches.T.float()
LABEL = torch.tensor([2, 0])


def targets(rows: int = 2, **change: object) -> Targets:
    """As in `batches`, in the types of a training."""
    given = batches.targets(rows, **{"teacher_KBC": T, **change})
    return replace(given, weight_B=given.weight_B.float())


def total(terms: list[Term], given: Targets, z: Tensor = Z, setting: Setting | None = None, **more: float) -> float:
    return Objective(terms, setting)(z, given, **more)[0].item()


def kl_of(z: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    return logit_loss("kl", temperature=temperature)(z, t, targets(len(z)))


def cross_entropy_of(z: Tensor, label: Tensor) -> Tensor:
    return label_loss("cross_entropy", prior=(), smoothing=0.0)(z, targets(len(z), label_B=label))


def test_the_total_is_the_weighted_sum_of_its_parts() -> None:
    terms = [Term("cross_entropy", weight=2.0), Term("kl", weight=0.5, temperature=3.0)]
    found, parts = Objective(terms)(Z, targets())
    assert list(parts) == ["cross_entropy", "kl"]
    assert found.item() == pytest.approx((2 * parts["cross_entropy"] + parts["kl"] / 2).item())


def test_a_loss_that_comes_twice_has_two_titles() -> None:
    terms = [Term("kl", temperature=t) for t in (1.0, 2.0, 4.0)]
    assert list(Objective(terms)(Z, targets())[1]) == ["kl", "kl_again", "kl_again2"]


def test_label_terms_see_labelled_rows_alone() -> None:
    assert total([Term("cross_entropy")], targets()) == pytest.approx(cross_entropy_of(Z, LABEL)[0].item() / 2)


@pytest.mark.parametrize(("where", "rows"), [("all", [0, 1]), ("labelled", [0]), ("unlabelled", [1])])
def test_terms_on_teachers_see_the_rows_that_they_ask_for(where: str, rows: list[int]) -> None:
    expected = kl_of(Z, T[0])[rows].sum().item() / 2
    found = total([Term("kl", where=where)], targets(teacher_KBC=T[:1]))  # type: ignore[arg-type]
    assert found == pytest.approx(expected)


HALF = targets(label_B=torch.tensor([2, -1]), partner_label_B=torch.tensor([-1, 1]), share_B=torch.tensor([0.25, 0.25]))
"""A labelled image and an unlabelled one, each mixed with a partner of the other kind."""


def test_a_mixture_is_labelled_only_when_both_its_pictures_are() -> None:
    assert HALF.labelled_B.tolist() == [False, False]
    assert total([Term("kl", where="unlabelled")], HALF) == total([Term("kl")], HALF) > 0


def test_a_label_that_is_mixed_with_an_unlabelled_picture_keeps_its_share() -> None:
    expected = cross_entropy_of(Z[:1], torch.tensor([2])) / 4 + cross_entropy_of(Z[1:], torch.tensor([1])) * 3 / 4
    assert total([Term("cross_entropy")], HALF) == pytest.approx(expected.item() / 2)
    assert HALF.known_share_B.tolist() == [0.25, 0.75]


def test_labels_of_many_classes_keep_their_share_beside_an_unlabelled_picture() -> None:
    labels = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])
    mixed = targets(
        labels_BC=labels, partner_label_B=LABEL, partner_labels_BC=labels.flip(0), share_B=torch.tensor([0.25, 0.25])
    )
    own, other = (total([Term("binary")], targets(labels_BC=each)) for each in (labels, labels.flip(0)))
    assert total([Term("binary")], mixed) == pytest.approx(own / 4 + other * 3 / 4)


def test_a_picture_that_is_mixed_with_nothing_needs_no_partner_s_label() -> None:
    alone = targets(label_B=LABEL, partner_label_B=torch.tensor([-1, -1]), share_B=torch.ones(2))
    assert total([Term("cross_entropy")], alone) == pytest.approx(cross_entropy_of(Z, LABEL).mean().item())


def test_label_terms_share_a_mixture_between_its_labels() -> None:
    mixed = targets(label_B=LABEL, partner_label_B=LABEL.flip(0), share_B=torch.tensor([0.25, 0.25]))
    own, other = cross_entropy_of(Z, LABEL).mean(), cross_entropy_of(Z, LABEL.flip(0)).mean()
    assert total([Term("cross_entropy")], mixed) == pytest.approx((own / 4 + other * 3 / 4).item())


def test_terms_on_teachers_know_nothing_of_mixtures() -> None:
    mixed = targets(partner_label_B=torch.tensor([0, 1]), share_B=torch.tensor([0.5, 0.5]))
    for loss in ("kl", "soft_binary"):
        assert total([Term(loss)], mixed) == total([Term(loss)], targets())


def test_rows_of_many_labels_count_once_one_is_known() -> None:
    labels = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])
    alone = total([Term("binary")], targets(1, labels_BC=labels[:1], teacher_KBC=T[:, :1]), Z[:1])
    assert total([Term("binary")], targets(labels_BC=labels)) == pytest.approx(alone / 2)


def test_a_batch_without_labels_costs_nothing_on_labels_and_keeps_its_graph() -> None:
    z = Z.clone().requires_grad_()
    found, _ = Objective([Term("cross_entropy")])(z, targets(label_B=torch.tensor([-1, -1])))
    found.backward()
    assert found.item() == 0.0
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_a_row_that_is_not_valid_cannot_spoil_the_batch() -> None:
    spoiled = T.clone()
    spoiled[:, 1] = float("nan")
    z = Z.clone().requires_grad_()
    given = targets(teacher_KBC=spoiled, valid_B=torch.tensor([True, False]))
    found, _ = Objective([Term("kl")])(z, given)
    found.backward()
    assert found.item() == pytest.approx(kl_of(Z[:1], T[:, 0]).mean().item() / 2)
    assert z.grad is not None
    assert (z.grad[1] == 0).all()


def test_a_row_that_is_not_valid_still_has_its_label() -> None:
    given = targets(label_B=LABEL, valid_B=torch.tensor([True, False]))
    assert total([Term("cross_entropy")], given) == pytest.approx(cross_entropy_of(Z, LABEL).mean().item())


def test_weights_choose_samples() -> None:
    given = targets(teacher_KBC=T[:1], weight_B=torch.tensor([0.0, 1.0]))
    assert total([Term("kl")], given) == pytest.approx(kl_of(Z, T[0])[1].item())


def test_weights_share_the_batch() -> None:
    given = targets(teacher_KBC=T[:1], weight_B=torch.tensor([3.0, 1.0]))
    expected = (3 * kl_of(Z, T[0])[0] + kl_of(Z, T[0])[1]) / 4
    assert total([Term("kl")], given) == pytest.approx(expected.item())


def test_a_part_of_a_larger_batch_is_divided_by_the_whole() -> None:
    whole = total([Term("kl")], targets())
    halves = [
        Objective([Term("kl")])(Z[i : i + 1], targets().rows(torch.tensor([i])), total_weight=torch.tensor(2.0))[0]
        for i in range(2)
    ]
    assert sum(halves).item() == pytest.approx(whole)  # type: ignore[union-attr]


def test_several_teachers_are_averaged() -> None:
    assert total([Term("kl")], targets()) == pytest.approx((kl_of(Z, T[0]) + kl_of(Z, T[1])).mean().item() / 2)


@pytest.mark.parametrize("kind", ["entropy", "confidence", "aekd"])
def test_several_teachers_share_as_the_term_says(kind: str) -> None:
    z = Z.clone().requires_grad_()
    losses = torch.stack([kl_of(z, t) for t in T])
    expected = (losses * shares(kind, losses, z, T, targets())).sum(0).mean()
    assert total([Term("kl", teachers=kind)], targets(), z) == pytest.approx(expected.item())  # type: ignore[arg-type]


def test_shares_come_from_what_the_teachers_said_before_standardising() -> None:
    sure = torch.stack([T[0], 10 * T[0]])
    term = Term("kl", teachers="entropy", standardise=True)
    losses = torch.stack([kl_of(standardised(Z), standardised(t)) for t in sure])
    share = shares("entropy", losses, Z, sure, targets())
    assert total([term], targets(teacher_KBC=sure)) == pytest.approx((losses * share).sum(0).mean().item())
    assert (share[1] > 0.6).all()


def test_a_term_reads_the_teacher_that_it_names() -> None:
    setting = Setting(classes=3, names=("big", "small"))
    found = total([Term("kl", teacher="small")], targets(), setting=setting)
    assert found == pytest.approx(kl_of(Z, T[1]).mean().item())


def test_a_teacher_that_is_not_there_is_missed() -> None:
    with pytest.raises(ValueError, match="no teacher 'tiny' among big, small"):
        total([Term("kl", teacher="tiny")], targets(), setting=Setting(classes=3, names=("big", "small")))


def test_standardise_takes_scale_and_offset_off_both() -> None:
    term = Term("kl", standardise=True, temperature=2.0)
    expected = kl_of(standardised(Z), standardised(T[0]), 2.0).mean().item()
    assert total([term], targets(teacher_KBC=T[:1])) == pytest.approx(expected)
    assert total([term], targets(teacher_KBC=5 * Z[None] + 3)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("done", "share"), [(0.0, 0), (0.2, 0), (0.3, 0.5), (0.4, 1), (0.79, 1), (0.8, 0)])
def test_a_term_begins_ramps_up_and_ends(done: float, share: float) -> None:
    term = Term("kl", weight=2.0, start=0.2, ramp=0.2, end=0.8)
    assert total([term], targets(), done=done) == pytest.approx(2 * share * total([Term("kl")], targets()))


def test_an_inactive_term_is_still_reported() -> None:
    _, parts = Objective([Term("kl", start=0.5)])(Z, targets(), done=0.0)
    assert parts["kl"].item() == pytest.approx(total([Term("kl")], targets()))


@pytest.mark.parametrize(
    ("term", "says"),
    [
        (Term("dist"), r"always 1 or -1 with 2 of them.*take kl, or .*`options: \{beta: 0\}`"),
        (Term("kl", standardise=True), r"kl: `standardise` turns the logits of 2 classes into 1 and -1.*leave it out"),
        (Term("logit_mse", standardise=True), "logit_mse: `standardise` turns"),
    ],
)
def test_what_teaches_nothing_with_two_classes_is_refused_there(term: Term, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Objective([term], Setting(classes=2))
    Objective([term], Setting(classes=3))


def test_dist_over_the_images_of_a_class_teaches_two_classes() -> None:
    z = Z[:, :2].repeat(2, 1) + torch.arange(4.0)[:, None] * torch.tensor([0.3, -0.1])
    z.requires_grad_()
    t = torch.tensor([[[1.0, -1.0], [0.0, 2.0], [0.5, 0.1], [3.0, 0.0]]])
    term = Term("dist", options={"beta": 0.0})
    Objective([term], Setting(classes=2))(z, targets(4, teacher_KBC=t))[0].backward()
    assert z.grad is not None
    assert (z.grad.abs() > 1e-3).all()


def test_a_prior_reaches_the_term_that_reads_it() -> None:
    terms, prior = [Term("logit_adjusted")], (0.7, 0.2, 0.1)
    expected = cross_entropy_of(Z + torch.tensor(prior).log(), LABEL).mean().item()
    found = total(terms, targets(label_B=LABEL), setting=Setting(classes=3, prior=prior))
    assert found == pytest.approx(expected)


def test_smoothing_reaches_the_term() -> None:
    expected = label_loss("cross_entropy", prior=(), smoothing=0.2)(Z, targets(label_B=LABEL)).mean().item()
    assert total([Term("cross_entropy", smoothing=0.2)], targets(label_B=LABEL)) == pytest.approx(expected)


def test_options_reach_the_term() -> None:
    expected = logit_loss("dist", temperature=1.0, beta=1.0, gamma=5.0)(Z, T[0], targets()).mean().item()
    assert total([Term("dist", options={"gamma": 5.0})], targets(teacher_KBC=T[:1])) == pytest.approx(expected)


def rescaled(weight: float, steps: int, reference: float = 1.0) -> tuple[list[float], Objective]:
    """Norms of the gradients of kl, unweighted, and of a rescaled term after some steps, and the objective."""
    torch.manual_seed(0)
    student = nn.Linear(4, 3)
    x = torch.randn(2, 4)
    terms = [Term("cross_entropy"), Term("kl", weight=reference), Term("grade_mse", weight=weight, rescale=True)]
    objective = Objective(terms)

    def norm(chosen: list[Term], scale: float = 1.0) -> float:
        loss, _ = Objective(chosen)(student(x), targets())
        return scale * float(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*student.parameters()])]).norm()
        )

    for _ in range(steps):
        found, parts = objective(student(x), targets(), student=list(student.parameters()))
    added = (found - parts["cross_entropy"] - reference * parts["kl"]) / parts["grade_mse"]
    return [norm([Term("kl")]), norm([Term("grade_mse")], added.item())], objective


def test_a_rescaled_term_of_weight_one_pulls_as_hard_as_the_distillation() -> None:
    (kl, grade), _ = rescaled(1.0, steps=1)
    assert grade == pytest.approx(kl, rel=1e-4)


def test_the_weight_of_a_rescaled_term_is_its_pull_beside_the_distillation() -> None:
    (kl, grade), _ = rescaled(0.25, steps=1)
    assert grade == pytest.approx(0.25 * kl, rel=1e-4)


@pytest.mark.parametrize("reference", [0.25, 4.0])
def test_a_rescaled_term_pulls_as_hard_as_the_weighted_distillation(reference: float) -> None:
    (kl, grade), _ = rescaled(1.0, steps=1, reference=reference)
    assert grade == pytest.approx(reference * kl, rel=1e-4)


def test_a_distillation_without_weight_is_no_reference() -> None:
    grade = Term("grade_mse", rescale=True)
    assert Objective([Term("kl", weight=0.0), grade]).rescale is None
    (first, second) = (Objective([Term("kl", weight=0.0), Term("dist", weight=w), grade]) for w in (1.0, 3.0))
    student = nn.Linear(3, 3)
    losses = [one(student(Z), targets(), student=list(student.parameters())) for one in (first, second)]
    pulls = [(total - w * parts["dist"]).item() for (total, parts), w in zip(losses, (1.0, 3.0), strict=True)]
    assert pulls[1] == pytest.approx(3 * pulls[0], rel=1e-4)


def test_the_scale_is_fixed_after_its_steps_and_lies_in_the_state() -> None:
    _, objective = rescaled(1.0, steps=STEPS + 2)
    state = objective.state_dict()
    assert state["rescale._extra_state"]["counts"] == [STEPS]
    resumed = Objective(objective.terms)
    resumed.load_state_dict(state)
    # No parameters are given: nothing is measured, the scale is the one of the state.
    assert resumed(Z, targets())[0].item() == objective(Z, targets())[0].item()


def test_soft_labels_that_are_not_there_are_missed() -> None:
    with pytest.raises(ValueError, match="needs soft labels"):
        total([Term("kl")], targets(teacher_KBC=None))


def test_an_objective_without_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one term"):
        Objective([])


def test_an_option_that_a_loss_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="kl has no option 'alpha'; it has none"):
        Objective([Term("kl", options={"alpha": 1.0})])


def test_an_objective_needs_a_teacher_when_a_term_does() -> None:
    assert not Objective([Term("cross_entropy")]).needs_teacher
    assert Objective([Term("cross_entropy"), Term("kl")]).needs_teacher


@pytest.mark.parametrize(
    ("task", "losses"),
    [
        ("single", ["cross_entropy", "kl"]),
        ("ordinal", ["cumulative", "cumulative_kl"]),
        ("multilabel", ["binary", "soft_binary"]),
    ],
)
def test_defaults_follow_the_task(task: str, losses: list[str]) -> None:
    assert [term.loss for term in default_terms(task, taught=True)] == losses
    assert [term.loss for term in default_terms(task, taught=False)] == losses[:1]


@pytest.mark.parametrize(("task", "classes"), [("single", 14), ("ordinal", 5), ("multilabel", 14)])
def test_a_teacher_as_sure_as_the_label_costs_what_the_label_costs(task: str, classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.randn(6, classes, generator=random)
    label = torch.randint(classes, (6,), generator=random)
    answer = nn.functional.one_hot(label, classes).float()
    sure = (2 * answer - 1) * 40
    given = targets(6, label_B=label, labels_BC=answer if task == "multilabel" else None, teacher_KBC=sure[None])
    _, parts = Objective(default_terms(task, taught=True))(z, given)
    on_labels, on_teacher = parts.values()
    assert on_teacher.item() == pytest.approx(on_labels.item(), rel=1e-5)


def test_default_objectives_learn_from_a_half_labelled_batch() -> None:
    for task in ("single", "ordinal"):
        z = Z.clone().requires_grad_()
        Objective(default_terms(task, taught=True))(z, targets())[0].backward()
        assert z.grad is not None
        assert np.isfinite(z.grad.numpy()).all()
        assert (z.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    "term",
    [
        Term("dist", where="unlabelled"),
        Term("kl", teachers="aekd", where="unlabelled"),
        *(
            Term(name, where="unlabelled", student_taps=("own",), teacher_taps=("their",), teachers="entropy")
            for name in ("rkd", "similarity", "pkt")
        ),
    ],
)
def test_a_loss_of_a_whole_batch_costs_nothing_without_rows(term: Term) -> None:
    z, own, their = Z.clone().requires_grad_(), torch.ones(2, 4).cumsum(1).requires_grad_(), torch.eye(2, 4)
    setting = Setting(3, student={"own": (4,)}, teachers=({"their": (4,)},) * 2, names=("one", "two"))
    given = targets(label_B=LABEL, maps=({"their": their},) * 2)
    found, _ = Objective([Term("cross_entropy"), term], setting)(z, given, maps={"own": own})
    found.backward()
    assert found.item() == pytest.approx(cross_entropy_of(Z, LABEL).mean().item())
    for leaf in (z, own):
        assert leaf.grad is None or leaf.grad.isfinite().all()
