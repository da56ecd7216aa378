"""A run that was asked to stop and does not: its process ends by itself, with all that it started."""

from __future__ import annotations

import subprocess
import sys

import psutil

HANGS = """
import subprocess, sys, threading
from flows.interrupts import Deadline
child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
print(child.pid, flush=True)
deadline = Deadline(lambda: print("told", flush=True), seconds=0.2)
deadline.begin()
deadline.begin()
threading.Event().wait()
"""


def test_a_process_that_hangs_tells_and_ends_with_its_children() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=120, check=False)
    child, *told = done.stdout.split()
    assert (done.returncode, told) == (1, ["told"])
    assert done.stderr.startswith("error: stopped on request")
    assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE
