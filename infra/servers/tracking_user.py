"""Who we are to MLflow: the user that it checked, where it has users."""

from __future__ import annotations

import json
import os

from infra.errors import StillroomError
from infra.servers.answer import answer, basic
from infra.servers.tracking import tracking_uri


def tracking_user() -> str:
    """Name of the user as whom MLflow answers us; "" where it asks nobody who they are, or does not tell.

    A name that is only set here counts for nothing: a server without users never looks at it.
    """
    uri = tracking_uri()
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if not uri.startswith("http") or not (name or token):
        return ""
    auth = basic(f"{name}:{password}") if name else f"Bearer {token}"
    try:
        found = json.loads(answer(f"{uri}/api/2.0/mlflow/users/current", "MLflow", auth=auth))
        return str(found["user"]["username"])
    # A server without users does not know the question; one that fails now tells nothing.
    except (StillroomError, ValueError, KeyError, TypeError):
        return ""
