"""A run that was asked to stop and does not: its process ends by itself, with all that it started."""

from __future__ import annotations

import subprocess
import sys

import psutil

from tests.prefect_client import wait_until

LEAVES = """
import threading
from flows.interrupts import Deadline
deadline = Deadline(lambda: print("told", flush=True), seconds=600)
deadline.begin()
deadline.stopped(0.2)
threading.Event().wait()
"""

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
    wait_until(lambda: gone(int(child)), 30)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_that_lives_on_after_its_run_has_less_time() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (1, ["told"])
