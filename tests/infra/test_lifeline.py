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


def test_a_tied_child_does_not_hear_the_terminal() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert os.getpgid(child.pid) != parent.pid
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=30)


BLOCKED = """
import multiprocessing, os, signal, threading
from infra.lifeline import without_interrupts

def child():
    os.kill(os.getpid(), signal.SIGINT)
    print("unharmed", flush=True)

def started_later():
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()

if __name__ == "__main__":
    with without_interrupts():
        thread = threading.Thread(target=started_later)
        thread.start()
    thread.join()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


def test_what_a_library_starts_without_interrupts_never_gets_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(BLOCKED)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("unharmed\n", 0), done.stderr


def test_children_import_our_packages_in_a_folder_with_others_of_the_same_names(tmp_path: Path) -> None:
    for name in ("infra", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the working folder')")
    command = [sys.executable, "-P", "-c", "from tests.infra.shadowed import main; main()"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    env.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
