"""Teachers that run on each batch: their outputs, and that they are not changed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.losses.targets import Targets
from models.losses.terms import Term
from models.networks.micro import micro_xs
from models.networks.taps import Taps
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective, Setting
from models.training.online_teachers import OnlineTeacher, OnlineTeachers
from models.training.trainer import Trainer


def targets(size: int = 4) -> Targets:
    no_teacher = torch.zeros(size, dtype=torch.bool)
    return Targets(torch.zeros(size, dtype=torch.int64), None, None, no_teacher, torch.ones(size))


def teacher(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return micro_xs(3)


def test_every_teacher_runs_at_its_own_size() -> None:
    first, second = teacher(0), teacher(1)
    x = (torch.randn(4, 3, 32, 32), torch.randn(4, 3, 48, 48))
    outputs = OnlineTeachers([OnlineTeacher(first), OnlineTeacher(second)]).with_outputs(x, targets())
    assert outputs.teacher_KBC is not None
    torch.testing.assert_close(outputs.teacher_KBC[0], first(x[0]))
    torch.testing.assert_close(outputs.teacher_KBC[1], second(x[1]))
    assert outputs.valid_B.all()
    assert outputs.maps == ({}, {})


def test_tapped_features_come_along() -> None:
    network = teacher()
    x = torch.randn(4, 3, 32, 32)
    outputs = OnlineTeachers([OnlineTeacher(network, {"pooled": "pooled", "last": "blocks"})]).with_outputs(
        (x,), targets()
    )
    assert set(outputs.maps[0]) == {"pooled", "last"}
    expected: Tensor = network.blocks(network.stem(x))
    torch.testing.assert_close(outputs.maps[0]["last"], expected)
    torch.testing.assert_close(outputs.maps[0]["pooled"], expected.mean((2, 3)))


def test_teachers_are_not_trained() -> None:
    network = teacher().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outputs = OnlineTeachers([OnlineTeacher(network)]).with_outputs((torch.randn(4, 3, 32, 32),), targets())
    assert outputs.teacher_KBC is not None
    assert not outputs.teacher_KBC.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_row_without_finite_outputs_is_not_valid() -> None:
    x = torch.randn(4, 3, 32, 32)
    x[2, 0, 5, 5] = float("nan")
    outputs = OnlineTeachers([OnlineTeacher(teacher(0)), OnlineTeacher(teacher(1))]).with_outputs(
        (torch.randn(4, 3, 32, 32), x), targets()
    )
    assert outputs.valid_B.tolist() == [True, True, False, True]


def test_an_input_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 teachers need as many inputs, got 1"):
        OnlineTeachers([OnlineTeacher(teacher(0)), OnlineTeacher(teacher(1))]).with_outputs(
            (torch.randn(4, 3, 32, 32),), targets()
        )


def test_a_student_learns_from_features_of_an_online_teacher() -> None:
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
        teachers=OnlineTeachers([OnlineTeacher(teacher(), {"features": "features"})]),
    )
    losses: list[float] = []
    batch = Batch(x, targets(8), [str(i) for i in range(8)], (x,))
    trainer.fit(iter([batch] * 20), on_step=lambda step, values: losses.append(values["loss"]))
    assert losses[-1] < 0.7 * losses[0]
