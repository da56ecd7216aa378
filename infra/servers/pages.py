"""`stillroom up`: the servers that are missing, workers and one page of links, for as long as the command runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psutil

from infra.errors import UsageError
from infra.servers.address import is_loopback, origin_of
from infra.servers.overview import Overview
from infra.servers.process_tag import process_tag
from infra.servers.server_process import ServerProcess
from infra.servers.servers_in_use import PrefectInUse, mlflow_in_use, prefect_in_use
from infra.servers.services import SERVER_AUTH, auth_file, noted_services, services_note
from infra.servers.supervisor import Service, Supervisor

WORKER_SECONDS = 40.0
"""For a worker to end its runs and itself, before it is killed."""


@dataclass(frozen=True)
class Ports:
    """TCP ports of what is served."""

    prefect: int = 4200
    mlflow: int = 5000
    page: int = 4300


@dataclass(frozen=True)
class Plan:
    """What is served beside Prefect's and MLflow's servers.

    Attributes:
        pools: Prefect's work pools, for each of which a worker runs.
        more: services that start before the workers.
        more_ports: their ports, by the option that names them.
        environment: of the workers, beside that of this process.
        ready: called once all of these answer, before the workers start.
        stored: further pages by their path, see `infra.servers.overview.Overview`.
    """

    pools: Sequence[str] = ()
    more: Callable[[], Sequence[Service]] = tuple
    more_ports: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], None] = lambda: None
    stored: Callable[[str], bytes | None] = lambda path: None


NOTHING_MORE = Plan()


def serve(host: str, ports: Ports, say: Callable[[str], None], plan: Plan = NOTHING_MORE) -> None:
    """Start what is missing and wait for SIGINT or SIGTERM; then all is gone. What dies meanwhile is started again.

    The Prefect API of PREFECT_API_URL and an MLflow server in the settings are used as they are.

    Raises:
        UsageError: it runs already, `host` is reached from other machines, a port is taken, or a server of somebody
            else refuses us.
        TransientError: such a server cannot be reached.
    """
    if noted_services():
        raise UsageError(f"already up: {services_note()}; `stillroom down` stops it")
    if not is_loopback(host):
        raise UsageError(
            f"--host {host}: other machines would reach MLflow's server, which asks nobody who they are; serve on "
            "127.0.0.1 and go there through `ssh -L`, or put a proxy that authenticates before it"
        )
    prefect, mlflow = prefect_in_use(host, ports.prefect), mlflow_in_use(host, ports.mlflow)
    own = {"prefect": ports.prefect} if prefect.own else {}
    own |= {"mlflow": ports.mlflow} if mlflow.own else {}
    _check_ports(host, {**own, "page": ports.page, **plan.more_ports})
    page = origin_of(host, ports.page)
    env = {**os.environ, **plan.environment}
    workers = [Service(f"worker {pool}", partial(start_worker, pool, prefect, env)) for pool in plan.pools]
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    supervisor, overview = Supervisor(say), None
    try:
        supervisor.start([prefect.service, mlflow.service, *plan.more()])
        noted = {
            "process": process_tag(),
            "pid": os.getpid(),
            "prefect": prefect.link,
            "api": prefect.api,
            "own_api": prefect.api if prefect.own else "",
            "mlflow": mlflow.link,
            "page": page,
        }
        services_note().write_text(json.dumps(noted))
        plan.ready()
        supervisor.start(workers)
        asks = str(auth_file()) if prefect.own else ""
        told = lambda: [service.to_json() for service in supervisor.services]  # noqa: E731
        overview = Overview(host, ports.page, told, asks, plan.stored)
        say(f"Page     {page}")
        say(f"Prefect  {prefect.link}  {f'(it asks for the string in {asks})' if asks else '(not ours)'}")
        say(f"MLflow   {mlflow.link}{'' if mlflow.own else '  (not ours)'}\n(interrupt to stop)")
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


def start_worker(pool: str, prefect: PrefectInUse, environment: Mapping[str, str]) -> ServerProcess:
    """Start a worker of a work pool as a child of this process; its runs end before it does."""
    env = {**environment, "PREFECT_API_URL": prefect.api}
    env |= {"PREFECT_API_AUTH_STRING": prefect.auth} if prefect.auth else {}
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
