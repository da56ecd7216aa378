"""`stillroom up`: Prefect's and MLflow's servers, workers and one page of links, for as long as the command runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psutil

from infra.errors import UsageError
from infra.servers.address import is_loopback, origin_of, own_origins, shown
from infra.servers.mlflow_database import prepare
from infra.servers.mlflow_server import ARTIFACTS, BACKEND
from infra.servers.overview import Overview
from infra.servers.prefect_api import start_api
from infra.servers.process_tag import process_tag
from infra.servers.server_process import ServerProcess
from infra.servers.services import SERVER_AUTH, auth_file, noted_services, server_auth, services_note
from infra.servers.supervisor import Service, Supervisor
from infra.servers.tracking import tracking_uri
from infra.settings import settings

# MLflow's server would start five processes for jobs that nothing here submits.
_MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


WORKER_SECONDS = 40.0
"""For a worker to end its runs and itself, before it is killed."""


@dataclass(frozen=True)
class Ports:
    """TCP ports of what is served."""

    prefect: int = 4200
    mlflow: int = 5000
    page: int = 4300


def serve(
    host: str,
    ports: Ports,
    say: Callable[[str], None],
    pools: Sequence[str] = (),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Start all and wait for SIGINT or SIGTERM; then all are gone. What dies meanwhile is started again.

    Args:
        pools: Prefect's work pools, for each of which a worker runs.
        ready: called once both servers answer, before the workers start.

    Raises:
        UsageError: they run already, `host` is reached from other machines, or a port is taken.
    """
    if noted_services():
        raise UsageError(f"already up: {services_note()}; `stillroom down` stops it")
    if not is_loopback(host):
        raise UsageError(
            f"--host {host}: other machines would reach MLflow's server, which asks nobody who they are; serve on "
            "127.0.0.1 and go there through `ssh -L`, or put a proxy that authenticates before it"
        )
    remote = tracking_uri().startswith("http")
    _check_ports(host, {"prefect": ports.prefect, "page": ports.page, **({} if remote else {"mlflow": ports.mlflow})})
    prefect, page = origin_of(host, ports.prefect), origin_of(host, ports.page)
    mlflow = tracking_uri() if remote else origin_of(host, ports.mlflow)
    servers = [Service("prefect", lambda: start_api(ports.prefect, host), prefect, f"{prefect}/api/health")]
    if not remote:
        servers.append(Service("mlflow", lambda: start_mlflow(host, ports.mlflow), mlflow, f"{mlflow}/health"))
    workers = [Service(f"worker {pool}", partial(start_worker, pool, prefect)) for pool in pools]
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    supervisor, overview = Supervisor(say), None
    try:
        supervisor.start(servers)
        noted = {
            "process": process_tag(),
            "pid": os.getpid(),
            "prefect": prefect,
            "mlflow": shown(mlflow),
            "page": page,
        }
        services_note().write_text(json.dumps(noted))
        ready()
        supervisor.start(workers)
        overview = Overview(
            host, ports.page, lambda: [service.to_json() for service in supervisor.services], str(auth_file())
        )
        say(f"Page     {page}")
        say(f"Prefect  {prefect}  (it asks for the string in {auth_file()})")
        say(f"MLflow   {shown(mlflow)}{'  (not ours)' if remote else ''}\n(interrupt to stop)")
        supervisor.watch(over)
    finally:
        if (noted_services() or {}).get("process") == process_tag():
            services_note().unlink(missing_ok=True)
        if overview is not None:
            overview.close()
        supervisor.stop()


def _check_ports(host: str, ports: dict[str, int]) -> None:
    """UsageError where something listens on one of the ports, or two are the same."""
    for name, port in ports.items():
        same = [other for other, number in ports.items() if number == port and other != name]
        if same:
            raise UsageError(f"--{name}-port and --{same[0]}-port are both {port}; give each its own")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise UsageError(
                    f"--{name}-port {port}: it cannot be served on {host} ({error.strerror}); give another port, or "
                    "find who has it: ss -ltnp"
                ) from None


def start_mlflow(host: str, port: int) -> ServerProcess:
    """Start MLflow's server and pages over our tracking store as a child of this process.

    Only pages of its own origin may write, and only requests to its own name are answered.
    """
    uri = tracking_uri()
    prepare(uri)
    origins = own_origins(host, port)
    env = {
        **_MLFLOW,
        **os.environ,
        BACKEND: uri,
        ARTIFACTS: settings().artifact_root.as_uri(),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(origin.removeprefix("http://") for origin in origins),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
    }
    return ServerProcess("mlflow", "infra.servers.mlflow_server", [host, str(port)], env)


def start_worker(pool: str, prefect: str) -> ServerProcess:
    """Start a worker of a work pool as a child of this process; its runs end before it does."""
    env = {**os.environ, "PREFECT_API_URL": f"{prefect}/api", "PREFECT_API_AUTH_STRING": server_auth()}
    # What the server wants to hear, a run needs not know twice.
    env.pop(SERVER_AUTH, None)
    return ServerProcess(f"worker-{pool}", "infra.servers.pool_worker", [pool], env, stop_seconds=WORKER_SECONDS)


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
