"""What is installed is pinned, with the sha256 of every file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;\n]+)", re.MULTILINE)


def plain(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    found = _PIN.findall((ROOT / file).read_text(encoding="utf-8"))
    assert len({plain(name) for name, _ in found}) == len(found)
    return {plain(name): version for name, version in found}


def test_constraints_and_hashes_name_the_same_versions() -> None:
    assert pins("constraints.txt") == pins("hashes.txt") | pins("hashes-torch.txt")


def test_every_pinned_version_has_hashes() -> None:
    for file in ("hashes.txt", "hashes-torch.txt", "hashes-cuda.txt"):
        text = (ROOT / file).read_text(encoding="utf-8")
        blocks = re.split(r"\n(?=\S)", text)[1:]
        assert len(blocks) == len(pins(file))
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)


def test_every_dependency_is_pinned() -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {plain(re.split(r"[<>=!~\[; ]", one)[0]) for one in wanted}
    assert names <= pins("constraints.txt").keys()


def test_the_build_takes_the_version_that_is_installed() -> None:
    assert PROJECT["build-system"]["requires"] == [f"setuptools=={pins('hashes.txt')['setuptools']}"]
