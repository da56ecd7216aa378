"""`stillroom up`: Prefect's and MLflow's pages, for as long as the command runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from collections.abc import Callable

from infra.errors import UsageError
from infra.servers.prefect_api import served, services_note, start_api
from infra.servers.server_process import ServerProcess, log_folder, wait_for
from infra.settings import settings

# MLflow's server would start five processes for jobs that nothing here submits.
_MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def serve(host: str, prefect_port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Start both servers and wait for SIGINT or SIGTERM; then both are gone."""
    if served():
        raise UsageError(f"already up: {services_note()}; `stillroom down` stops it")
    servers: list[ServerProcess] = []
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        prefect, mlflow = f"http://{host}:{prefect_port}", f"http://{host}:{mlflow_port}"
        servers.append(start_api(prefect_port, host))
        servers.append(start_mlflow(host, mlflow_port))
        wait_for(f"{prefect}/api/health", servers[0])
        wait_for(f"{mlflow}/health", servers[1])
        services_note().write_text(json.dumps({"pid": os.getpid(), "prefect": prefect, "mlflow": mlflow}))
        say(f"Prefect  {prefect}\nMLflow   {mlflow}\n(interrupt to stop)")
        while not over.wait(1.0):
            for server in servers:
                server.check()
    finally:
        services_note().unlink(missing_ok=True)
        for server in servers:
            server.stop()


def start_mlflow(host: str, port: int) -> ServerProcess:
    """Start MLflow's server and pages over our tracking store as a child of this process."""
    arguments = ["server", "--host", host, "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", settings().tracking_uri]
    arguments += ["--default-artifact-root", settings().artifact_root.as_uri()]
    # Without --app-dir uvicorn puts the working folder first on the import path.
    arguments += ["--uvicorn-opts", f"--log-level warning --app-dir {shlex.quote(str(log_folder()))}"]
    return ServerProcess("mlflow", "mlflow", arguments, {**_MLFLOW, **os.environ})


def stop() -> str:
    """Ask a running `stillroom up` to end; says what it did."""
    if not served():
        return "nothing is up"
    pid = int(json.loads(services_note().read_text())["pid"])
    os.kill(pid, signal.SIGTERM)
    return f"asked process {pid} to stop"
