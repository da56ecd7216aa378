"""What the README and the first pages show is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from flows.cli import cli
from models.losses.terms import LOSSES
from tasks.spec import parse_spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDENTS = (ROOT / "docs/students.md").read_text(encoding="utf-8")
SPECS = [
    re.findall(r"```yaml\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    for page in ("spec", "teachers", "students")
]


def test_the_spec_loads() -> None:
    spec = parse_spec(SPECS[0])
    assert spec.corpus.adapter == "table"
    assert spec.student.seeds == [0, 1, 2]


def test_every_kind_of_teacher_is_shown_and_loads() -> None:
    spec = parse_spec(yaml.safe_dump({**yaml.safe_load(SPECS[0]), **yaml.safe_load(SPECS[1])}))
    assert {teacher.kind for teacher in spec.teachers} == {"network", "graph", "onnx", "python", "table"}
    assert spec.views.mix == "cutmix"


def test_the_student_that_is_shown_loads() -> None:
    spec = parse_spec(yaml.safe_dump({**yaml.safe_load(SPECS[0]), **yaml.safe_load(SPECS[2])}))
    assert [term.loss for term in spec.student.loss or []] == ["cross_entropy", "kl", "fitnets"]


def test_every_loss_is_named() -> None:
    assert [name for name in LOSSES if f"`{name}`" not in STUDENTS] == []


def test_every_command_exists() -> None:
    shown = set(re.findall(r"stillroom ([a-z]+)\b", README)) - {"package"}
    assert {"init", "retrain", "promote", "pull"} <= shown <= set(cli.commands)


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^ {4}make ([a-z]+)", README, re.MULTILINE)) <= targets
