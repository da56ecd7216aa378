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

# Read by mlflow: nothing of a run leaves this machine unasked, git is not asked, and our progress is the only one
# that shows.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
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
    logging.getLogger("alembic").setLevel(logging.WARNING)
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
    """The version of a registered model that holds an alias, or None."""
    with quiet():
        from mlflow.exceptions import MlflowException

        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            # An alias that nobody holds is an invalid parameter to one backend, a missing resource to another.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def model_source(client: Any, logged: Any) -> str:
    """What a registered version names as its source.

    Over SQLite the place of the artifacts: resolving `models:/` there would ask the process-wide tracking URI.
    """
    own = client.tracking_uri.startswith("sqlite:")
    return str(logged.artifact_location) if own else f"models:/{logged.model_id}"
