"""MLflow's server and pages in one process.

`mlflow server` starts uvicorn as a process of its own, which lives on when the command is killed.

    python -m infra.lifeline infra.servers.mlflow_server HOST PORT
"""

from __future__ import annotations

import os
import sys

from infra.servers.tracking import quiet

BACKEND, ARTIFACTS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"
"""Environment variables of the command `mlflow server`, read here too: an address may hold a password."""


def main() -> None:
    """Serve until SIGTERM; addresses of database and artifacts stand in the environment."""
    host, port = sys.argv[1], int(sys.argv[2])
    with quiet():
        import uvicorn
        from mlflow import server

        # What the command hands to the process that it starts.
        os.environ[server.BACKEND_STORE_URI_ENV_VAR] = os.environ[BACKEND]
        os.environ[server.REGISTRY_STORE_URI_ENV_VAR] = os.environ[BACKEND]
        os.environ[server.ARTIFACT_ROOT_ENV_VAR] = os.environ[ARTIFACTS]
        os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = os.environ[ARTIFACTS]
        os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
        from mlflow.server.fastapi_app import app

    uvicorn.run(app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()
