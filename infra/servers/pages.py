"""`stillroom up`: Prefect's and MLflow's pages, for as long as the command runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable

from infra.errors import TransientError, UsageError
from infra.lifeline import start_tied
from infra.servers.prefect_api import served, services_note, start_api, wait_for
from infra.settings import settings


def serve(host: str, prefect_port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Start both servers and wait for SIGINT or SIGTERM; then both are gone."""
    if served():
        raise UsageError(f"already up: {services_note()}; `stillroom down` stops it")
    home = settings().home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    children: list[subprocess.Popen[bytes]] = []
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        prefect, mlflow = f"http://{host}:{prefect_port}", f"http://{host}:{mlflow_port}"
        children.append(start_api(prefect_port, host))
        children.append(start_mlflow(host, mlflow_port))
        wait_for(f"{prefect}/api/health", children[0])
        wait_for(f"{mlflow}/health", children[1])
        services_note().write_text(json.dumps({"pid": os.getpid(), "prefect": prefect, "mlflow": mlflow}))
        say(f"Prefect  {prefect}\nMLflow   {mlflow}\n(interrupt to stop)")
        while not over.wait(1.0):
            dead = [child for child in children if child.poll() is not None]
            if dead:
                raise TransientError(f"a server ended with code {dead[0].returncode}; is its port free?")
    finally:
        services_note().unlink(missing_ok=True)
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def start_mlflow(host: str, port: int) -> subprocess.Popen[bytes]:
    """Start MLflow's server and pages over our tracking store as a tied child."""
    arguments = ["server", "--host", host, "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", settings().tracking_uri]
    arguments += ["--default-artifact-root", settings().artifact_root.as_uri()]
    return start_tied("mlflow", arguments)


def stop() -> str:
    """Ask a running `stillroom up` to end; says what it did."""
    if not served():
        return "nothing is up"
    pid = int(json.loads(services_note().read_text())["pid"])
    os.kill(pid, signal.SIGTERM)
    return f"asked process {pid} to stop"
