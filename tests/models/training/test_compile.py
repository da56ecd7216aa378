"""A compiled student learns what an uncompiled one does."""

from __future__ import annotations

import shutil

import pytest
import torch

from models.losses.terms import Term
from models.networks.taps import Taps
from models.training.config import TrainConfig
from models.training.objective import Objective, Setting
from models.training.trainer import Trainer
from tests.models.training.nets import ON_LABELS, batches, network

TERMS = [
    ON_LABELS,
    Term("kl"),
    Term("fitnets", student_taps=("flat",), teacher_taps=("pooled",), rescale=True),
]


def losses(compile: bool) -> list[float]:
    student = network(dropout=0.0)
    setting = Setting(classes=2, student={"flat": (144,)}, teachers=({"pooled": (6,)},), names=("teacher",))
    objective = Objective(TERMS, setting)
    made = Trainer(
        student, objective, TrainConfig(steps=20, lr=1e-3), taps=Taps(student, {"flat": "3"}), compile=compile
    )
    logged: list[float] = []
    made.fit(batches(), on_step=lambda step, values: logged.append(values["loss"]))
    assert list(made.weights()) == list(network().state_dict())
    return logged


@pytest.mark.filterwarnings("ignore")  # of the compiler about its own parts
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no compiler for torch.compile")
def test_a_compiled_student_learns_the_same() -> None:
    torch.manual_seed(0)
    plain = losses(compile=False)
    torch.manual_seed(0)
    assert losses(compile=True) == pytest.approx(plain, rel=1e-3)
