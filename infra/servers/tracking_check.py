"""Whether MLflow will take what the last stage brings, asked before the first stage begins."""

from __future__ import annotations

import os
import socket
from urllib.parse import SplitResult, urlsplit

from infra.errors import PermanentError, StillroomError, TransientError, UsageError
from infra.servers.address import shown
from infra.servers.answer import SECONDS, answer, basic
from infra.servers.tracking import connect, experiment, quiet, tracking_place, tracking_uri

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_tracking(name: str, model: str) -> None:
    """Return when MLflow answers and lets us write what a registration needs; makes the experiment when missing.

    Args:
        name: of the experiment.
        model: name that a student will be registered under; nothing is made of it yet.

    Raises:
        UsageError: MLflow refuses, or the experiment was deleted.
        TransientError: it cannot be reached.
        PermanentError: it fails in another way.
    """
    place = tracking_place()
    check_reachable()
    try:
        client = connect()
        found = experiment(client, name)
        with quiet():
            client.set_experiment_tag(found, "mlflow.source.name", "stillroom")
            if client.search_registered_models(f"name='{model}'", max_results=1):
                client.set_registered_model_tag(model, "stillroom.experiment", name)
    except StillroomError:
        raise
    except ImportError as error:
        raise UsageError(f"MLflow at {place}: {error}; install what its database needs") from error
    # Servers and databases fail with errors of many libraries; before the first stage each ends the run.
    except Exception as error:
        code = getattr(error, "error_code", "")
        first = str(error).partition("\n")[0]
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            raise UsageError(f"MLflow at {place} does not let us write ({code}); ask who runs it") from error
        raise PermanentError(f"MLflow at {place} cannot be used: {first}") from error


def check_reachable() -> None:
    """Return when the server or database answers at all; takes seconds, imports nothing and writes nothing.

    Raises:
        UsageError: it refuses us, redirects, or is no MLflow.
        TransientError: it cannot be reached.
    """
    uri = tracking_uri()
    if not uri.startswith("http"):
        _check_port(urlsplit(uri))
        return
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    auth = basic(f"{user}:{password}") if user else f"Bearer {token}" if token else ""
    name = "MLflow"
    try:
        found = answer(f"{uri}/api/2.0/mlflow/experiments/search", name, auth=auth, body=b'{"max_results": 1}')
    except UsageError as error:
        hint = "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise UsageError(f"{error}{hint if 'HTTP 401' in str(error) else ''}") from None
    if not found.lstrip().startswith(b"{"):
        raise UsageError(f"what answers at {shown(uri)} is not MLflow; set STILLROOM_MLFLOW_URI to its address")


def _check_port(address: SplitResult) -> None:
    """Return when something listens where a database should; MLflow itself tries for minutes."""
    port = address.port or _PORTS.get(address.scheme.partition("+")[0])
    if not address.hostname or port is None:
        return
    try:
        socket.create_connection((address.hostname, port), timeout=SECONDS).close()
    except OSError as error:
        raise TransientError(f"MLflow's database at {tracking_place()} cannot be reached: {error}") from error
