"""MLflow: where it is, and the few calls that the stages need.

Importing mlflow costs seconds, so it is imported at the first call. Only the explicit client is used, never
the fluent API: that one asks git, reads the user's name and keeps a run per thread.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from infra.settings import settings

# Read by mlflow when it is imported: nothing of a run leaves this machine unasked, and git is not asked.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def tracking_uri() -> str:
    """`STILLROOM_MLFLOW_URI`, else `MLFLOW_TRACKING_URI`, else a SQLite file under `STILLROOM_HOME`.

    Raises:
        UsageError: a folder or `file:` address, which MLflow no longer maintains as a store.
    """
    machine = settings()
    uri = machine.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI") or machine.tracking_uri
    if uri.startswith("file:") or "://" not in uri:
        raise UsageError(f"MLflow at {uri!r}: a file store is not supported; use sqlite:///PATH or http://HOST:PORT")
    return uri


@contextmanager
def quiet() -> Iterator[None]:
    """mlflow without its own noise: its import and calls warn about themselves, not about us."""
    with warnings.catch_warnings():
        # Deprecations inside mlflow and what it imports; ours are raised in our own modules.
        for module in (r"mlflow(\..*)?", r"pydantic(\..*)?", r"sqlalchemy(\..*)?", r"alembic(\..*)?"):
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
            warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        # mlflow.types.responses says this of mlflow's own type hints when it is imported.
        warnings.filterwarnings("ignore", r".*Any type hint is inferred as AnyType", UserWarning)
        yield


def connect() -> Any:
    """An `mlflow.MlflowClient` at `tracking_uri()`; the database and its folder are made when missing."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with quiet():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment(client: Any, name: str) -> str:
    """Id of the experiment, made when missing; over SQLite its artifacts lie under `STILLROOM_HOME`."""
    with quiet():
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        own = client.tracking_uri.startswith("sqlite:")
        place = (settings().artifact_root / name).as_uri() if own else None
        return str(client.create_experiment(name, artifact_location=place))


def versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, oldest first; none when there is no such model."""
    with quiet():
        found = list(client.search_model_versions(f"name='{name}'", max_results=1000))
    return sorted(found, key=lambda version: int(version.version))


def alias_of(client: Any, name: str, alias: str) -> Any | None:
    """The version that holds an alias, or None."""
    return next((v for v in versions(client, name) if alias in _aliases(client, name, v.version)), None)


def _aliases(client: Any, name: str, version: str) -> list[str]:
    return list(client.get_model_version(name, version).aliases)
