"""Teachers that see each batch: what they say, and that they stay as they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.losses import Targets
from models.losses.terms import Term
from models.networks.micro import micro_xs
from models.networks.taps import Taps
from models.training import Batch, TrainConfig, Trainer
from models.training.objective import Objective, Setting
from models.training.online_teachers import Member, Teachers


def targets(size: int = 4) -> Targets:
    nobody = torch.zeros(size, dtype=torch.bool)
    return Targets(torch.zeros(size, dtype=torch.int64), None, None, nobody, torch.ones(size))


def teacher(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return micro_xs(3)


def test_every_teacher_answers_at_its_own_size() -> None:
    first, second = teacher(0), teacher(1)
    x = (torch.randn(4, 3, 32, 32), torch.randn(4, 3, 48, 48))
    taught = Teachers([Member(first), Member(second)]).teach(x, targets())
    assert taught.teacher_KBC is not None
    torch.testing.assert_close(taught.teacher_KBC[0], first(x[0]))
    torch.testing.assert_close(taught.teacher_KBC[1], second(x[1]))
    assert taught.valid_B.all()
    assert taught.maps == ({}, {})


def test_tapped_features_come_along() -> None:
    network = teacher()
    x = torch.randn(4, 3, 32, 32)
    taught = Teachers([Member(network, {"pooled": "pooled", "last": "blocks"})]).teach((x,), targets())
    assert set(taught.maps[0]) == {"pooled", "last"}
    expected: Tensor = network.blocks(network.stem(x))
    torch.testing.assert_close(taught.maps[0]["last"], expected)
    torch.testing.assert_close(taught.maps[0]["pooled"], expected.mean((2, 3)))


def test_teachers_neither_learn_nor_move() -> None:
    network = teacher().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    taught = Teachers([Member(network)]).teach((torch.randn(4, 3, 32, 32),), targets())
    assert taught.teacher_KBC is not None
    assert not taught.teacher_KBC.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_row_without_a_finite_answer_teaches_nothing() -> None:
    x = torch.randn(4, 3, 32, 32)
    x[2, 0, 5, 5] = float("nan")
    taught = Teachers([Member(teacher(0)), Member(teacher(1))]).teach((torch.randn(4, 3, 32, 32), x), targets())
    assert taught.valid_B.tolist() == [True, True, False, True]


def test_an_input_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 teachers need as many inputs, got 1"):
        Teachers([Member(teacher(0)), Member(teacher(1))]).teach((torch.randn(4, 3, 32, 32),), targets())


def test_a_student_learns_from_features_of_a_teacher_at_hand() -> None:
    torch.manual_seed(2)
    student = micro_xs(3)
    x = torch.randn(8, 3, 32, 32)
    setting = Setting(classes=3, student={"features": (64, 2, 2)}, teachers=({"features": (64, 2, 2)},), names=("t",))
    term = Term("fitnets", student_taps=("features",), teacher_taps=("features",))
    trainer = Trainer(
        student,
        Objective([term], setting),
        TrainConfig(steps=20, lr=0.01, accumulate=2),
        taps=Taps(student, {"features": "features"}),
        teachers=Teachers([Member(teacher(), {"features": "features"})]),
    )
    losses: list[float] = []
    batch = Batch(x, targets(8), [str(i) for i in range(8)], (x,))
    trainer.fit(iter([batch] * 20), on_step=lambda step, values: losses.append(values["loss"]))
    assert losses[-1] < 0.7 * losses[0]
