"""A real PostgreSQL server for tests, of the binaries that the system has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from glob import glob
from pathlib import Path

from infra.servers.prefect_api import free_port

USER, PASSWORD = "stillroom", "not-a-secret"


def binary(name: str) -> str | None:
    """Path of one of PostgreSQL's programs; None where it is not installed."""
    places = [os.path.dirname(path) for path in sorted(glob("/usr/lib/postgresql/*/bin/postgres"))]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))


class PostgresServer:
    """An empty database on a port of its own; it ends with `close` or with this process.

    PostgreSQL refuses to run as root, so that root starts it as the user `postgres`.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="stillroom-postgres-"))
        self._as = ["setpriv", "--pdeathsig", "INT"]
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "INT"]
            for path in (self._folder, secret):
                shutil.chown(path, "postgres", "postgres")
        data = str(self._folder / "data")
        make = [str(binary("initdb")), "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        subprocess.run([*self._as, *make], cwd="/", check=True, capture_output=True)
        serve = [str(binary("postgres")), "-D", data, "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        self._process = subprocess.Popen(
            [*self._as, *serve, "-F"], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ask = [str(binary("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + 120
        while subprocess.run(ask, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError("PostgreSQL did not start")
            time.sleep(0.1)

    def close(self) -> None:
        """Stop the server and remove its files."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder)
