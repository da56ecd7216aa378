"""`stillroom up`: Prefect's and MLflow's pages, for as long as the command runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
from collections.abc import Callable

import psutil

from infra.errors import UsageError
from infra.servers.address import is_loopback, origin_of, own_origins, shown
from infra.servers.mlflow_database import prepare
from infra.servers.prefect_api import start_api
from infra.servers.process_tag import process_tag
from infra.servers.server_process import ServerProcess, log_folder, wait_for
from infra.servers.services import auth_file, noted_services, services_note
from infra.servers.tracking import tracking_uri
from infra.settings import settings

# MLflow's server would start five processes for jobs that nothing here submits.
_MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def serve(host: str, prefect_port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Start both servers and wait for SIGINT or SIGTERM; then both are gone.

    Raises:
        UsageError: they run already, or `host` is reached from other machines.
    """
    if noted_services():
        raise UsageError(f"already up: {services_note()}; `stillroom down` stops it")
    if not is_loopback(host):
        raise UsageError(
            f"--host {host}: other machines would reach MLflow's server, which asks nobody who they are; serve on "
            "127.0.0.1 and go there through `ssh -L`, or put a proxy that authenticates before it"
        )
    servers: list[ServerProcess] = []
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        prefect, mlflow = origin_of(host, prefect_port), origin_of(host, mlflow_port)
        servers.append(start_api(prefect_port, host))
        if remote := tracking_uri().startswith("http"):
            mlflow = tracking_uri()
        else:
            servers.append(start_mlflow(host, mlflow_port))
            wait_for(f"{mlflow}/health", servers[1])
        wait_for(f"{prefect}/api/health", servers[0])
        noted = {"process": process_tag(), "pid": os.getpid(), "prefect": prefect, "mlflow": shown(mlflow)}
        services_note().write_text(json.dumps(noted))
        say(f"Prefect  {prefect}  (it asks for the string in {auth_file()})")
        say(f"MLflow   {shown(mlflow)}{'  (not ours)' if remote else ''}\n(interrupt to stop)")
        while not over.wait(1.0):
            for server in servers:
                server.check()
    finally:
        if (noted_services() or {}).get("process") == process_tag():
            services_note().unlink(missing_ok=True)
        for server in servers:
            server.stop()


def start_mlflow(host: str, port: int) -> ServerProcess:
    """Start MLflow's server and pages over our tracking store as a child of this process.

    Only pages of its own origin may write, and only requests to its own name are answered.
    """
    uri = tracking_uri()
    prepare(uri)
    origins = own_origins(host, port)
    arguments = ["server", "--host", host, "--port", str(port), "--workers", "1"]
    arguments += ["--default-artifact-root", settings().artifact_root.as_uri()]
    arguments += ["--allowed-hosts", ",".join(origin.removeprefix("http://") for origin in origins)]
    arguments += ["--cors-allowed-origins", ",".join(origins)]
    # Without --app-dir uvicorn puts the working folder first on the import path.
    arguments += ["--uvicorn-opts", f"--log-level warning --app-dir {shlex.quote(str(log_folder()))}"]
    # Not as an argument: everybody may read those, and an address may hold a password.
    return ServerProcess("mlflow", "mlflow", arguments, {**_MLFLOW, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri})


def stop() -> str:
    """Ask a running `stillroom up` to end; says what it did.

    Raises:
        UsageError: it belongs to somebody else.
    """
    noted = noted_services()
    if noted is None:
        return "nothing is up"
    pid = int(noted["pid"])
    try:
        # psutil compares start times once more before it sends the signal.
        psutil.Process(pid).terminate()
    except psutil.NoSuchProcess:
        return "nothing is up"
    except psutil.AccessDenied:
        raise UsageError(f"process {pid} serves the pages of this home and belongs to another user") from None
    return f"asked process {pid} to stop"
