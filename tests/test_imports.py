"""The import contracts of `.importlinter` hold, and a forbidden import breaks them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("flows", "tasks", "models", "infra")


def check(tree: Path) -> subprocess.CompletedProcess[str]:
    """The linter as `make check` runs it, on the packages below `tree`."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--config", str(ROOT / ".importlinter")]
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def test_the_contracts_hold(copy: Path) -> None:
    done = check(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("models/losses/logits.py", "import infra.errors", "flows -> tasks -> models, infra"),
        ("tasks/select/stage.py", "import tasks.label.stage", "Layers of tasks"),
        ("tasks/data/corpus.py", "import tasks.ingest.stage", "Layers of tasks"),
        ("tasks/evaluate/stage.py", "import prefect", "Prefect stays"),
        ("infra/errors.py", "import infra.storage.store", "Layers of infra"),
    ],
)
def test_a_forbidden_import_breaks_them(copy: Path, file: str, line: str, contract: str) -> None:
    path = copy / file
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    try:
        done = check(copy)
    finally:
        path.write_text(before)
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text or contract in text]
    assert any(contract in text for text in broken), done.stdout
