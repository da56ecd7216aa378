"""The test server itself: it ends with those who started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

PARENT = """
import sys, time
from pathlib import Path
from tests.s3server import S3Server
server = S3Server(Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(600)
"""


def test_the_server_dies_with_a_killed_test_run(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))
    assert server.name() == "rclone"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([server], timeout=30)
    assert (gone, alive) == ([server], [])
