"""Nothing of ours outlives a killed parent."""

from __future__ import annotations

import subprocess
import sys

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
