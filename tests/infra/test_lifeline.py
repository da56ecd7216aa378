"""Nothing of ours outlives a killed parent, and children import our packages wherever they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

PARENT = """
import sys, time
from infra.lifeline import start_tied
child = start_tied("http.server", ["0", "--bind", "127.0.0.1"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_tied_child_dies_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([child], timeout=30)
    assert gone == [child]
    assert alive == []


def test_children_import_our_packages_in_a_folder_with_others_of_the_same_names(tmp_path: Path) -> None:
    for name in ("infra", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the working folder')")
    command = [sys.executable, "-P", "-c", "from tests.infra.shadowed import main; main()"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    env.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
