"""What the README shows is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from flows.cli import cli
from tasks.spec import parse_spec

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_spec_loads() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    spec = parse_spec(text)
    assert spec.corpus.adapter == "table"
    assert spec.student.seeds == [0, 1, 2]


def test_every_command_exists_and_is_named() -> None:
    shown = set(re.findall(r"stillroom ([a-z]+)\b", README)) - {"package"}
    assert shown <= set(cli.commands)
    named = set(re.findall(r"`(?:stillroom )?([a-z]+)[^`]*`", README))
    assert set(cli.commands) <= named


def test_every_make_target_exists() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^ {4}make ([a-z]+)", README, re.MULTILINE)) <= targets
