"""The objective's own parameters learn beside the student without changing its steps."""

from __future__ import annotations

import pytest
import torch

from models.losses.terms import Term
from models.networks.taps import Taps
from models.training.config import TrainConfig
from models.training.objective import Objective, Setting
from models.training.trainer import Trainer
from tests.models.training.nets import ON_LABELS, batch, batches, network

CLIP = 0.05


def hinted(**values: object) -> Trainer:
    """A trainer of cross-entropy, fitnets and its projector, with plain gradient steps."""
    config = TrainConfig(
        **{  # type: ignore[arg-type]
            "steps": 4,
            "lr": 0.05,
            "optimizer": "sgd",
            "schedule": "constant",
            "warmup": 0.0,
            "weight_decay": 0.0,
            "clip": CLIP,
            **values,
        }
    )
    student = network(norm=False, dropout=0.0)
    taps = ("3",)
    terms = [ON_LABELS, Term("fitnets", weight=30.0, student_taps=taps, teacher_taps=("pooled",))]
    setting = Setting(classes=2, student={"3": (144,)}, teachers=({"pooled": (6,)},), names=("teacher",))
    torch.manual_seed(2)
    return Trainer(student, Objective(terms, setting), config, taps=Taps(student, taps))


def gradient_norm(module: torch.nn.Module) -> float:
    grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return float(torch.cat(grads).norm())


@pytest.mark.parametrize("clip_value", [None, 1e3])
def test_the_student_s_gradient_is_clipped_by_its_own_norm(clip_value: float | None) -> None:
    made = hinted(clip_value=clip_value)
    made.fit(batches(0, 4))
    assert gradient_norm(made.student) == pytest.approx(CLIP, rel=1e-4)
    assert gradient_norm(made.objective) == pytest.approx(CLIP, rel=1e-4)


def test_projectors_learn_at_the_student_s_rate() -> None:
    made = hinted()
    made.fit(batches(0, 4))
    assert [group["lr"] for group in made._stepper._optimizer.param_groups] == [0.05] * 4


def test_projectors_may_have_a_rate_of_their_own() -> None:
    own, shared = hinted(projector_lr=0.5), hinted()
    before = {name: value.clone() for name, value in own.objective.named_parameters()}
    _one_step(own)
    _one_step(shared)
    for name, start in before.items():
        moved, usual = (dict(one.objective.named_parameters())[name] - start for one in (own, shared))
        torch.testing.assert_close(moved, 10 * usual, rtol=1e-3, atol=1e-6)
    for name, value in own.student.state_dict().items():
        assert torch.equal(value, shared.student.state_dict()[name]), name


def test_projectors_alone_are_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        hinted(freeze=("0", "5"))


def _one_step(made: Trainer) -> None:
    with pytest.raises(RuntimeError, match="the data ended at step 1"):
        made.fit(iter([batch(0)]))
