"""The Prefect and MLflow servers of `stillroom up`: those that are configured, else children of ours on loopback."""

from __future__ import annotations

import os
from dataclasses import dataclass

from infra.servers.address import origin_of, own_origins, shown
from infra.servers.mlflow_database import prepare
from infra.servers.mlflow_server import ARTIFACTS, BACKEND
from infra.servers.prefect_api import GIVEN, check_api, given_api, start_api
from infra.servers.server_process import ServerProcess
from infra.servers.services import server_auth
from infra.servers.supervisor import Service
from infra.servers.tracking import tracking_uri
from infra.servers.tracking_check import check_reachable
from infra.settings import settings

# MLflow's server would start five processes for jobs that nothing here submits.
_MLFLOW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True)
class PrefectInUse:
    """A Prefect server.

    Attributes:
        own: whether we start it.
        api: address of its API.
        auth: the `user:password` that it asks for; None: it asks for none, or for PREFECT_API_KEY.
        link: its pages.
    """

    own: bool
    api: str
    auth: str | None
    link: str
    service: Service


@dataclass(frozen=True)
class MlflowInUse:
    """An MLflow server: whether we start it, and its pages."""

    own: bool
    link: str
    service: Service


def prefect_in_use(host: str, port: int) -> PrefectInUse:
    """The server of PREFECT_API_URL, which must answer us; without it one of ours at a host and port.

    Raises:
        UsageError: that server refuses us, or is no Prefect.
        TransientError: it cannot be reached.
    """
    given = os.environ.get("PREFECT_API_URL")
    if not given:
        link = origin_of(host, port)
        service = Service("prefect", lambda: start_api(port, host), link, f"{link}/api/health")
        return PrefectInUse(True, f"{link}/api", server_auth(), link, service)
    api, auth = given_api(given)

    def asks() -> None:
        check_api(api, auth, GIVEN)

    asks()
    link = os.environ.get("PREFECT_UI_URL") or api.removesuffix("/api")
    return PrefectInUse(False, api, auth, link, Service("prefect", None, link, asks=asks))


def mlflow_in_use(host: str, port: int) -> MlflowInUse:
    """The server of STILLROOM_MLFLOW_URI or MLFLOW_TRACKING_URI, which must answer us; else one of ours.

    Ours serves the database that is configured, or the home's.

    Raises:
        UsageError: that server refuses us, or is no MLflow.
        TransientError: it, or a configured database, cannot be reached.
    """
    check_reachable()
    uri = tracking_uri()
    if not uri.startswith("http"):
        link = origin_of(host, port)
        service = Service("mlflow", lambda: start_mlflow(host, port), link, f"{link}/health")
        return MlflowInUse(True, link, service)
    return MlflowInUse(False, shown(uri), Service("mlflow", None, shown(uri), asks=check_reachable))


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
