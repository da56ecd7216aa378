"""The services of the compose file as processes of this machine: the same commands, environment and secrets.

What a container engine adds is put in its place: names of services become ports on loopback, mounted folders the
folders themselves, PostgreSQL's image its `initdb`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.deploy.prepare import prepare
from infra.servers.prefect_api import free_port
from tests.infra.deploy.files import ROOT, compose

PORTS = {
    "prefect-db": 5432,
    "mlflow-db": 5432,
    "store-s3": 9000,
    "artifacts-s3": 9000,
    "prefect-server": 4200,
    "mlflow": 5000,
    "dask-scheduler": 8786,
}
"""Where each service listens in its container."""

# Dies with the process that starts it, whatever becomes of that.
_TIED = """
import os, sys
from infra.lifeline import tie_to_parent
tie_to_parent(int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""

_START = [sys.executable, "-m", "infra.deploy.with_secrets"]


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs lie, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class Processes:
    """Services of the compose file below a folder; `close` ends them.

    Args:
        folder: whatever they keep; must not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        prepare(folder)
        self.folder = folder
        self.ports = {name: free_port() for name in PORTS}
        given = {"STILLROOM_DATA": str(folder), "STILLROOM_UID": "1", "STILLROOM_GID": "1"}
        given |= {"PREFECT_PORT": "1", "MLFLOW_PORT": "1"}
        given["PREFECT_ORIGIN"] = f"http://127.0.0.1:{self.ports['prefect-server']}"
        given["MLFLOW_HOSTS"] = f"127.0.0.1:{self.ports['mlflow']}"
        given["STILLROOM_WORKERS"] = "1"
        self.services: dict[str, Any] = compose(given)["services"]
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def url(self, name: str, scheme: str = "http") -> str:
        """Where a service answers on this machine."""
        return f"{scheme}://127.0.0.1:{self.ports[name]}"

    def secret(self, name: str) -> str:
        """The text of a secret."""
        return (self.folder / "secrets" / name).read_text(encoding="utf-8").strip()

    def environment(self, name: str) -> dict[str, str]:
        """The service's own environment, and of ours what finds programs."""
        found = {key: self._here(name, str(value)) for key, value in self.services[name]["environment"].items()}
        if name == "prefect-server":
            found["PREFECT_SERVER_DATABASE_HOST"] = "127.0.0.1"
            found["PREFECT_SERVER_DATABASE_PORT"] = str(self.ports["prefect-db"])
        if name == "mlflow":
            found |= {"PGHOST": "127.0.0.1", "PGPORT": str(self.ports["mlflow-db"])}
        home = self.folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        kept = {key: os.environ[key] for key in ("LANG", "STILLROOM_MARK") if key in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        image = {"PYTHONSAFEPATH": "1", "PYTHONPATH": paths, "HOME": str(home), "DO_NOT_TRACK": "1"}
        homes = {"STILLROOM_HOME": str(home / "stillroom"), "PREFECT_HOME": str(home / "prefect")}
        return {**kept, "PATH": path, **image, **homes, **found}

    def start(self, name: str) -> None:
        """Start a service with its secrets, as the image's entry point does; its output goes to `logs/NAME`."""
        if name.endswith("-db"):
            self._start_database(name)
            return
        command = [self._here(name, part) for part in self.services[name]["command"]]
        tied = [sys.executable, "-c", _TIED, str(os.getpid()), *_START, *command]
        self._run(name, tied, self.environment(name))

    def run(self, name: str) -> str:
        """Run a service that ends by itself; what it says."""
        command = [self._here(name, part) for part in self.services[name]["command"]]
        done = subprocess.run(
            [*_START, *command], env=self.environment(name), capture_output=True, text=True, cwd="/", check=False
        )
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout

    def python(self, name: str, code: str, *arguments: str, **changes: str) -> str:
        """The last line that Python code prints in the environment of a service.

        Args:
            changes: variables that are others for the code.
        """
        command = [*_START, sys.executable, "-c", code, *arguments]
        env = self.environment(name) | changes
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd="/", check=False)
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout.strip().rpartition("\n")[2]

    def log(self, name: str) -> str:
        """What a service has said."""
        return (self.folder / "logs" / name).read_text(errors="replace")

    def close(self) -> None:
        """End all, the last one first."""
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        for name, process in reversed(self.running.items()):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"{name} does not end: {self.log(name)[-2000:]}") from None

    def _here(self, name: str, text: str) -> str:
        """A text of the compose file with addresses and folders of this machine."""
        text = text.replace("/run/secrets/", f"{self.folder}/secrets/").replace("0.0.0.0", "127.0.0.1")
        for volume in self.services[name].get("volumes", ()):
            source, target = volume.split(":")[:2]
            source = str(ROOT / "infra" / "deploy" / source) if source.startswith("./") else source
            text = re.sub(rf"(?<![\w/]){re.escape(target)}(?=/|$)", source, text)
        for service, port in PORTS.items():
            text = re.sub(rf"(?<![\w-]){service}:{port}\b", f"127.0.0.1:{self.ports[service]}", text)
        if name in PORTS:
            text = re.sub(rf"^(--port=|127\.0\.0\.1:|){PORTS[name]}$", rf"\g<1>{self.ports[name]}", text)
        return text

    def _start_database(self, name: str) -> None:
        programs = postgres_folder()
        assert programs is not None
        service = self.services[name]
        user, data = service["environment"]["POSTGRES_USER"], self.folder / name
        # PostgreSQL refuses root; its package brings a user of its own.
        shutil.chown(data, "postgres") if os.getuid() == 0 else None
        password = self.folder / f"{name}-password"
        shutil.copy(self.folder / "secrets" / Path(service["environment"]["POSTGRES_PASSWORD_FILE"]).name, password)
        shutil.chown(password, "postgres") if os.getuid() == 0 else None
        arguments = service["environment"]["POSTGRES_INITDB_ARGS"].split()
        other = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        # Ends with this process, whatever becomes of it.
        tied = ["setpriv", *other, "--pdeathsig=QUIT"]
        made = [f"{programs}/initdb", "-D", str(data), "-U", user, f"--pwfile={password}", "-E", "UTF8", *arguments]
        subprocess.run([*tied, *made], check=True, capture_output=True, cwd="/")
        place = ["-D", str(data), "-k", str(data), "-p", str(self.ports[name]), "-c", "listen_addresses=127.0.0.1"]
        command = [*tied, f"{programs}/{service['command'][0]}", *place, *service["command"][1:]]
        self._run(name, command, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})

    def create_database(self, name: str) -> None:
        """The database that the image makes of POSTGRES_DB; ConnectionError while the server does not answer."""
        import psycopg2

        environment = self.services[name]["environment"]
        user = environment["POSTGRES_USER"]
        password = self.secret(Path(environment["POSTGRES_PASSWORD_FILE"]).name)
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=self.ports[name], user=user, password=password, dbname="postgres"
            )
        except psycopg2.OperationalError as error:
            raise ConnectionError(str(error)) from None
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {environment['POSTGRES_DB']}")
        connection.close()

    def _run(self, name: str, command: list[str], env: dict[str, str]) -> None:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / name).open("ab") as output:
            self.running[name] = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT, cwd="/")
